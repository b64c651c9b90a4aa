//! Both stores are put back to an older version of a state, which is as genuine as the newest one was: nothing is run with
//! it. The vendor takes no idempotency key here and finds nothing by name, so whatever Terraform does not know it makes once
//! more.

use std::collections::BTreeMap;

use sqlx::Executor;
use wanwright_nats::topology;
use wanwright_schemas::CommandId;
use wanwright_schemas::order::{Desired, Intent, Order};
use wanwright_schemas::reason::Reason;

use super::lost::{Provider, order, world};
use super::tests::{World, is_done};
use crate::engine::Outcome;
use crate::terraform::{Backup, Verdict};

fn stack(order: &Order) -> String {
    let Desired::Site { site, .. } = &order.desired else { panic!("a site") };
    site.uid.to_string()
}

fn nobody(_: &'static str, _: u64, _: u64) {}

impl World {
    /// Puts both stores back to what they had when this version was the newest.
    async fn put_back(&self, stack: &str, serial: i64) {
        let store = &self.servers.store;
        let sql = format!("DELETE FROM terraform.states WHERE stack = '{stack}' AND serial > {serial}");
        assert!(store.pool.execute(&*sql).await.expect("put back").rows_affected() > 0);
        let version = store.in_postgres(&store.pool, stack).await.expect("opens").expect("a version");
        let copies = self.servers.nats.js.get_stream(topology::STATES).await.expect("the stream");
        copies.purge().await.expect("put back");
        store.copies.put(&store.seal(&version).expect("sealed")).await.expect("put back");
    }

    /// Carries an order out, which has to wait because the state is an older one.
    async fn waits(&self, order: &Order) {
        let (outcome, calls) = self.run(order, 1).await;
        assert!(
            matches!(&outcome, Outcome::Passing { code: Reason::StateOlder, ours: true, message }
                if message.contains("wanwright state accept")),
            "{outcome:?}"
        );
        assert_eq!(calls, 0, "the vendor was asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_both_stores_were_put_back_to_is_not_run_with() {
    let world = world(Provider::Ours, &["site", "tunnel"]).await;
    let whole = order(Intent::Apply, 0);
    let Desired::Site { site, .. } = whole.desired.clone() else { panic!("a site") };
    let alone = Desired::Site { site, tunnels: BTreeMap::new(), leaving: BTreeMap::new() };
    let (outcome, first) = world.run_storing(&Order { desired: alone, ..whole.clone() }, 1).await;
    assert!(is_done(&outcome), "{outcome:?}");
    let (outcome, newest) = world.run_storing(&whole.clone().of_state(first), 1).await;
    assert!(is_done(&outcome), "{outcome:?}");
    let (first, newest) = (first.expect("a version"), newest.expect("a version"));
    assert!(newest.serial > first.serial, "{first:?} {newest:?}");
    world.is_whole().await;
    let pool = &world.servers.store.pool;
    let dir = world.servers.dir.path().join("backup");
    Backup::write(pool, &dir, &nobody).await.expect("a backup");

    let stack = stack(&whole);
    world.put_back(&stack, first.serial).await;
    let check = CommandId::mint();
    for intent in [Intent::Apply, Intent::Remove, Intent::Observe { check }] {
        world.waits(&order(intent, 0).of_state(Some(newest))).await;
    }
    let plan = Intent::Plan { remove: false, number: 1 };
    world.waits(&order(plan, 0).of_state(Some(newest))).await;
    assert_eq!((world.there("sites").await.len(), world.there("tunnels").await.len()), (1, 1));

    // What the backup has stands behind what is there, and is what the history tells of.
    let backup = Backup::open(&dir, &nobody).await.expect("a backup");
    let restored = backup.restore(pool, &nobody).await.expect("restored");
    assert_eq!(restored.iter().map(|of| of.verdict).collect::<Vec<_>>(), [Verdict::Restored]);
    for known in [newest, first] {
        // Whoever was killed before its report has left a newer one than is known.
        let (outcome, stored) = world.run_storing(&whole.clone().of_state(Some(known)), 1).await;
        assert!(is_done(&outcome), "{outcome:?}");
        assert!(stored.expect("a version").serial >= newest.serial, "{stored:?}");
        world.is_whole().await;
    }
}
