//! Calls pass with a credential, a turn and a record, and only as long as their run is there.

use wanwright_schemas::effect::Phase;

use crate::world::World;

#[tokio::test]
async fn a_queued_call_of_a_run_that_ended_is_not_sent() {
    let world = World::new(50).await;
    let (context, opened) = world.run("edge-01");
    let base = opened.base_url().to_owned();
    // The vendor wants to be left alone for longer than this test lasts, so the call waits for another turn.
    world.storm(25).await;
    let waiting = tokio::spawn(World::create_site(world.http.clone(), base.clone(), "acme.one"));
    while world.recorded(&context).await != [429] {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    assert_eq!(opened.calls(), 1);
    drop(opened);
    let (status, body) = waiting.await.unwrap();
    assert_eq!((status, body.pointer("/error/code").unwrap().as_str()), (503, Some("gateway")));
    assert!(body.to_string().contains("has ended"), "{body}");

    let (status, _) = World::create_site(world.http.clone(), base, "acme.late").await;
    assert_eq!(status, 503, "404 would mean that the vendor does not have it");
    assert_eq!(world.stats().await.totals.calls, 1);
    let journal = world.journal(&context).await;
    assert!(
        matches!(&journal[..], [Phase::Before, Phase::After { status: 429, .. }]),
        "a call that was not sent is no change: {journal:?}"
    );
}

#[tokio::test]
async fn a_429_is_waited_out() {
    let world = World::new(50).await;
    let (context, opened) = world.run("edge-01");
    world.storm(1).await;
    let (status, body) =
        World::create_site(world.http.clone(), opened.base_url().to_owned(), "acme.storm").await;
    assert_eq!(status, 201, "{body}");
    let recorded = world.recorded(&context).await;
    assert_eq!((recorded.first(), recorded.last()), (Some(&429), Some(&201)));
    let journal = world.journal(&context).await;
    assert!(
        matches!(journal.last(), Some(Phase::After { status: 201, id: Some(_) })),
        "the vendor took the credential, and the change is in the journal: {journal:?}"
    );
    let stats = world.stats().await;
    assert!(stats.totals.stormed >= 1);
    assert_eq!(stats.totals.above_limit, 0);
    assert!(!opened.failed_by_us());
}
