//! Fifty tenants try everything on each other: nothing happens, and nothing is learned. Each trick is shown to do something
//! in the hands of whoever has the right to it.

mod conceded;
mod control;
mod doors;
mod impostors;
mod silence;
mod table;
mod tricks;
mod world;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use async_nats::{HeaderMap, Subscriber};
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde_json::Value;
use wanwright_nats::Nats;
use wanwright_tests::{Timing, level};

use table::Table;
use tricks::{Op, Pair, TRACED, TRICKS, Trick};
use world::{Tenant, World};

/// How many tenants.
const TENANTS: usize = 50;

/// The number of one who does not exist: what is learned about him is what is learned about nobody.
const NOBODY: usize = 95;

/// What is heard in a tenant's inbox, by the number of whom it was tried on and the trick.
type Answers = BTreeMap<(usize, usize), Vec<String>>;

/// What listens to everything there is; tried once by each tenant.
const EVERYTHING: [&str; 9] =
    [">", "*.>", "wan.>", "wan.*.*.>", "_INBOX.>", "_R_.>", "$JS.>", "$SYS.>", "$KV.>"];

struct Member {
    tenant: Tenant,
    nats: Nats,
}

/// A message with its headers, to a subject, from somebody.
async fn perform(nats: &Nats, op: &Op, reply: &str) -> Result<Option<Subscriber>> {
    match op {
        Op::Publish { subject, head, body, reply: other } => {
            let mut headers = HeaderMap::new();
            head.iter().for_each(|(name, value)| headers.insert(*name, value.as_str()));
            let reply = other.clone().unwrap_or_else(|| reply.to_owned());
            let (subject, body) = (subject.clone(), body.clone().into());
            if headers.is_empty() {
                nats.client.publish_with_reply(subject, reply, body).await?;
            } else {
                nats.client.publish_with_reply_and_headers(subject, reply, headers, body).await?;
            }
            Ok(None)
        }
        Op::Subscribe { subject, queue: None } => Ok(Some(nats.client.subscribe(subject.clone()).await?)),
        Op::Subscribe { subject, queue: Some(queue) } => {
            Ok(Some(nats.client.queue_subscribe(subject.clone(), (*queue).to_owned()).await?))
        }
    }
}

/// What a customer does on an ordinary day, so that there is something to hear: it is asked, told and changed.
async fn live(world: &World, member: &Member, number: usize) -> Result<()> {
    let Tenant { customer, user, site, .. } = &member.tenant;
    let client = &member.nats.client;
    let body = format!(r#"{{"vendor":"simwan","lan":["10.{number}.7.0/24"]}}"#);
    client.request(format!("wan.do.{customer}.{user}.site.day-{number}.create"), body.into()).await?;
    client.request(format!("wan.cmd.{customer}.{user}.site.{site}.retry"), "{}".into()).await?;
    client.request(format!("wan.history.{customer}.{user}"), "".into()).await?;
    world.admin.client.publish(format!("wan.live.{customer}.site.{site}"), "{}".into()).await?;
    world.admin.client.flush().await?;
    Ok(())
}

/// Everything sent before this has been read by the server and handled by the services.
async fn settled(member: &Member) -> Result<()> {
    let Tenant { customer, user, .. } = &member.tenant;
    member
        .nats
        .client
        .request(format!("wan.history.{customer}.{user}"), "".into())
        .await
        .context(user.clone())?;
    Ok(())
}

/// What an answer says, without the names that the question had in it.
fn said(message: &async_nats::Message, on: &Tenant) -> String {
    let mut text = String::from_utf8_lossy(&message.payload).into_owned();
    if let Ok(mut answer) = serde_json::from_str::<Value>(&text) {
        if let Some(fields) = answer.as_object_mut() {
            fields.remove("command");
        }
        text = answer.to_string();
    }
    for name in [&on.customer, &on.user, &on.site, &on.command, &on.key] {
        text = text.replace(name.as_str(), "THEIRS");
    }
    format!("{:?} {text}", message.status)
}

/// Reads what came into an inbox until nothing more is there.
fn heard(inbox: &mut Subscriber, on: &BTreeMap<usize, &Tenant>) -> Answers {
    let mut answers = Answers::new();
    while let Some(Some(message)) = inbox.next().now_or_never() {
        let mut tokens = message.subject.rsplit('.');
        let trick = tokens.next().and_then(|token| token.parse().ok());
        let number = tokens.next().and_then(|token| token.parse().ok());
        if let (Some(trick), Some(number)) = (trick, number)
            && let Some(on) = on.get(&number)
        {
            answers.entry((number, trick)).or_default().push(said(&message, on));
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_tenants_cannot_touch_each_other() -> Result<()> {
    let timing = Timing::of("fifty tenants");
    let world = World::new().await?;
    let system = world.connect(world.keys.system()).await?;
    let mut members = Vec::new();
    for number in 0..TENANTS {
        let (tenant, nats) = world.tenant(number, &system).await?;
        members.push(Member { tenant, nats });
    }
    timing.say("they are there");
    control::every_trick_works_for_whoever_has_the_right(&world, &system).await?;
    timing.say(format_args!("{} tricks work for whoever may", TRICKS.len()));

    let (mut table, nobody) = (Table::default(), Tenant::imagined(NOBODY));
    listening(&world, &members, &mut table).await?;
    timing.say("listened");
    sending(&world, &members, &mut table).await?;
    timing.say("sent");
    impostors::impostors(&world, &members, &mut table).await?;
    timing.say("connected as others");
    impostors::shared_ids(&members, &mut table).await?;
    impostors::oracles(&members, &nobody, &mut table).await?;
    timing.say("asked through the inbox");
    silence::words(&world, &members, &nobody, &mut table).await?;
    let largest = silence::times(&members, &nobody, &mut table).await?;
    timing.say(format_args!("listened to the server, and to the clock: {largest}"));
    conceded::serial_numbers(&members, &mut table).await?;
    conceded::positions(&members, &mut table).await?;
    conceded::nothing_else_moves(&members, &mut table).await?;
    table.print();
    timing.say(format_args!("{} tries", table.tries()));
    ensure!(table.tries() >= 98_000, "only {} tries", table.tries());
    ensure!(table.effects() == 0 && table.told() == 0, "something happened");
    Ok(())
}

/// Everybody listens to everybody, while everybody lives.
async fn listening(world: &World, members: &[Member], table: &mut Table) -> Result<()> {
    let mut ears: Vec<(&'static str, Subscriber)> = Vec::new();
    for me in members {
        for (on, trick) in members.iter().flat_map(|on| TRICKS.iter().map(move |trick| (on, trick))) {
            let op = (trick.op)(Pair { me: &me.tenant, on: &on.tenant, rightful: false });
            if matches!(op, Op::Subscribe { .. }) && me.tenant.customer != on.tenant.customer {
                let ear = perform(&me.nats, &op, "").await?.context("a subscription")?;
                ears.push((trick.name, ear));
            }
        }
        for subject in EVERYTHING {
            ears.push(("listening to everything there is", me.nats.client.subscribe(subject).await?));
        }
        settled(me).await?;
    }
    for (number, member) in members.iter().enumerate() {
        live(world, member, number + 1).await?;
    }
    world.at_rest().await?;
    for member in members {
        settled(member).await?;
    }
    for (name, mut ear) in ears {
        let heard = ear.next().now_or_never().flatten().is_some();
        table.note(name, u64::from(heard), 0);
    }
    Ok(())
}

/// Everybody sends everything to everybody.
async fn sending(world: &World, members: &[Member], table: &mut Table) -> Result<()> {
    let nobody = Tenant::imagined(NOBODY);
    let before = world.at_rest().await?;
    let known: BTreeMap<usize, &Tenant> =
        members.iter().map(|member| &member.tenant).enumerate().chain([(NOBODY, &nobody)]).collect();
    let send = async |me: usize| {
        let member = &members[me];
        let inbox = format!("_INBOX.{}.tried", member.tenant.user);
        let mut ear = member.nats.client.subscribe(format!("{inbox}.>")).await?;
        for (number, on) in known.iter().filter(|(number, _)| **number != me) {
            for (index, trick) in TRICKS.iter().enumerate() {
                let op = (trick.op)(Pair { me: &member.tenant, on, rightful: false });
                if matches!(op, Op::Publish { .. }) {
                    perform(&member.nats, &op, &format!("{inbox}.{number}.{index}")).await?;
                }
            }
            // The server lets a tenant run only so far ahead.
            settled(member).await?;
        }
        // What was asked of one's own is answered out of turn; each of those questions has an answer.
        let others = known.keys().filter(|number| **number != me);
        let wanted: Vec<_> =
            others.flat_map(|number| expected().map(move |trick| (*number, trick))).collect();
        let mut answers = Answers::new();
        let answered = level::until("each question has its answer", level::LONG, async || {
            for (key, more) in heard(&mut ear, &known) {
                answers.entry(key).or_default().extend(more);
            }
            Ok(wanted.iter().all(|key| answers.contains_key(key)))
        });
        answered.await?;
        Ok::<_, anyhow::Error>(answers)
    };
    let told: Vec<Answers> =
        futures::stream::iter((0..members.len()).map(send)).buffered(8).try_collect().await?;
    let after = world.at_rest().await?;
    let changed: Vec<_> = before.iter().filter(|(name, seen)| after.get(*name) != Some(*seen)).collect();
    ensure!(changed.is_empty() && before.len() == after.len(), "before {changed:?}\nafter {after:?}");
    for (me, answers) in told.iter().enumerate() {
        for number in known.keys().filter(|number| **number != me && **number != NOBODY) {
            for (index, trick) in TRICKS.iter().enumerate() {
                let op = (trick.op)(Pair { me: &members[me].tenant, on: known[number], rightful: false });
                if matches!(op, Op::Subscribe { .. }) {
                    continue;
                }
                let (theirs, nobodys) = (answers.get(&(*number, index)), answers.get(&(NOBODY, index)));
                ensure!(
                    theirs == nobodys,
                    "{}: {theirs:?} about another, {nobodys:?} about nobody",
                    trick.name
                );
                table.note(trick.name, 0, u64::from(theirs != nobodys));
                table.answered(trick.name, theirs.map_or(0, |answers| answers.len() as u64));
            }
        }
    }
    Ok(())
}

/// The tricks that ask something of one's own, or what everybody may ask, and are answered therefore.
fn expected() -> impl Iterator<Item = usize> {
    TRICKS.iter().enumerate().filter(|(_, trick)| is_answered(trick)).map(|(index, _)| index)
}

fn is_answered(trick: &Trick) -> bool {
    let (me, on) = (Tenant::imagined(1), Tenant::imagined(2));
    match (trick.op)(Pair { me: &me, on: &on, rightful: false }) {
        Op::Publish { subject, head, reply: None, .. } => {
            let is_ones_own = subject.split('.').nth(2) == Some(me.customer.as_str());
            // What is traced to where one may not publish goes no further.
            let is_traced = head.iter().any(|(name, _)| *name == TRACED);
            !is_traced && (is_ones_own || subject.starts_with("wan.explain"))
        }
        _ => false,
    }
}
