//! What the server lets users do.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use wanwright_nats::accounts::{Credentials, Role, UserKind};
use wanwright_nats::topology;
use wanwright_schemas::{rollout, services, subjects};

use crate::world::{LIMIT, NOTHING, World, is_silent, listen, next, start, subscribe};

#[tokio::test]
async fn the_actor_of_a_command_is_its_sender() {
    let world = World::new().await;
    for customer in ["acme", "globex"] {
        world.account(customer).await;
    }
    let commands = world.connect(world.authority.role(Role::Commands)).await;
    let mut requests = listen(&commands, "wan.decide.>").await;
    let mut submitted = listen(&commands, "wan.submit.>").await;
    let anna = world.connect(world.user("acme/anna", UserKind::Tenant, None)).await;
    // None of these reaches anybody, and the last two, which do, come first.
    for forged in [
        "wan.do.acme.bob.site.oslo.create",
        "wan.do.acme.executor.site.oslo.report",
        "wan.do.globex.anna.site.oslo.create",
        "wan.decide.0.globex.anna.site.oslo.create",
        "wan.submit.globex.anna.site.oslo.create",
        "wan.submit.acme.anna.site.oslo.create",
        "wan.cmd.globex.anna.site.oslo.create",
        "wan.evt.3.acme",
    ] {
        anna.publish(forged, "{}".into()).await.unwrap();
    }
    anna.publish("wan.do.acme.anna.site.oslo.create", "{}".into()).await.unwrap();
    anna.publish("wan.cmd.acme.anna.site.oslo.create", "{}".into()).await.unwrap();
    assert_eq!(next(&mut requests).await.0, "wan.decide.7.acme.anna.site.oslo.create");
    assert_eq!(next(&mut submitted).await.0, "wan.submit.acme.anna.site.oslo.create");

    let olga = world.connect(world.user("olga", UserKind::Operator, None)).await;
    olga.publish("wan.do.globex.anna.site.oslo.create", "{}".into()).await.unwrap();
    olga.publish("wan.do.globex.olga.site.oslo.create", "{}".into()).await.unwrap();
    olga.publish("wan.cmd.globex.olga.site.oslo.create", "{}".into()).await.unwrap();
    let (subject, _) = next(&mut requests).await;
    assert!(subject.ends_with(".globex.olga.site.oslo.create"), "{subject}");
    assert_eq!(next(&mut submitted).await.0, "wan.submit.globex.olga.site.oslo.create");
    assert!(is_silent(&mut requests).await && is_silent(&mut submitted).await);
}

#[tokio::test]
async fn only_an_operator_reaches_the_controls_and_speaks_for_itself() {
    let world = World::new().await;
    world.account("acme").await;
    let commands = world.connect(world.authority.role(Role::Commands)).await;
    let mut asked = listen(&commands, services::CONTROL_ALL).await;
    for (user, kind) in
        [("acme/anna", UserKind::Tenant), ("paul", UserKind::Approver), ("rosa", UserKind::Reader)]
    {
        let someone = world.connect(world.user(user, kind, None)).await;
        let name = user.trim_start_matches("acme/");
        for subject in ["vendor.simwan", "customer.acme"] {
            someone.publish(format!("wan.control.{name}.pause.{subject}"), "{}".into()).await.unwrap();
            someone.publish(format!("wan.control.olga.pause.{subject}"), "{}".into()).await.unwrap();
        }
        someone.flush().await.unwrap();
    }
    let olga = world.connect(world.user("olga", UserKind::Operator, None)).await;
    olga.publish("wan.control.otto.pause.vendor.simwan", "{}".into()).await.unwrap();
    olga.publish("$KV.controls.vendor.simwan", "{}".into()).await.unwrap();
    olga.publish("wan.control.olga.pause.vendor.simwan", "{}".into()).await.unwrap();
    assert_eq!(next(&mut asked).await.0, "wan.control.olga.pause.vendor.simwan");
    assert!(is_silent(&mut asked).await);
}

#[tokio::test]
async fn users_of_one_account_do_not_read_each_others_answers() {
    let world = World::new().await;
    world.account("acme").await;
    let anna = world.connect(world.user("acme/anna", UserKind::Tenant, None)).await;
    let bob = world.connect(world.user("acme/bob", UserKind::Tenant, None)).await;
    let mut snooped = Vec::new();
    for subject in ["_INBOX.>", "_INBOX.anna.>", ">", "*.anna.>", "_R_.>", "wan.>"] {
        snooped.push(subscribe(&bob, subject).await);
    }
    let commands = world.connect(world.authority.role(Role::Commands)).await;
    let mut requests = listen(&commands, "wan.history.*.*").await;
    let answer = tokio::spawn(async move {
        use futures::StreamExt;
        let request = requests.next().await.unwrap();
        commands.publish(request.reply.unwrap(), "hers".into()).await.unwrap();
        commands
    });
    let answered = anna.request("wan.history.acme.anna", "".into()).await.unwrap();
    assert_eq!(answered.payload, "hers");
    let _commands = answer.await.unwrap();
    for subscriber in &mut snooped {
        assert!(is_silent(subscriber).await);
    }
}

#[tokio::test]
async fn a_revoked_user_is_cut_off_at_once_and_stays_out() {
    let world = World::new().await;
    world.account("acme").await;
    let creds = world.user("acme/anna", UserKind::Tenant, None);
    let copy = world.dir.path().join("copy.creds");
    std::fs::copy(&creds, &copy).unwrap();
    let anna = world.try_connect(copy.clone()).await.unwrap().client;
    let bob = world.connect(world.user("acme/bob", UserKind::Tenant, None)).await;
    world.revoke("acme", "anna").await;
    let cut = async {
        while anna.connection_state() == async_nats::connection::State::Connected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), cut).await.unwrap();
    assert!(world.try_connect(copy.clone()).await.is_err());
    bob.flush().await.unwrap();
    assert!(!creds.exists());

    // The name may be given out again; the old key stays dead.
    let again = world.user("acme/anna", UserKind::Reader, None);
    assert!(world.try_connect(again).await.is_ok());
    world.account("acme").await;
    assert!(world.try_connect(copy).await.is_err());
}

#[tokio::test]
async fn an_expired_user_is_cut_off() {
    let world = World::new().await;
    world.account("acme").await;
    let creds = world.user("acme/anna", UserKind::Tenant, Some(Duration::from_secs(2)));
    assert!(Credentials::read(&creds).unwrap().expires.is_some());
    let anna = world.connect(creds.clone()).await;
    let cut = async {
        while anna.connection_state() == async_nats::connection::State::Connected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, cut).await.unwrap();
    // The second in which it ends still counts.
    let out = async { while world.try_connect(creds.clone()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(3), out).await.unwrap();
}

#[tokio::test]
async fn a_revoked_account_ends_with_all_its_users_and_does_not_come_back_with_a_restart() {
    let mut world = World::new().await;
    world.account("acme").await;
    let creds = world.user("acme/anna", UserKind::Tenant, None);
    let copy = world.dir.path().join("copy.creds");
    std::fs::copy(&creds, &copy).unwrap();
    assert!(world.try_connect(copy.clone()).await.is_ok());
    let word = world.authority.revoke_account(&"acme".parse().unwrap()).unwrap();
    wanwright_nats::accounts::push::delete(&world.system().await, &word, "acme").await.unwrap();
    assert!(world.try_connect(copy.clone()).await.is_err());

    // An account of the same name is another one.
    world.account("acme").await;
    assert!(world.try_connect(copy.clone()).await.is_err());
    let bob = world.user("acme/bob", UserKind::Tenant, None);
    assert!(world.try_connect(bob.clone()).await.is_ok());

    world.server.stop(LIMIT).await;
    world.server = start(world.dir.path(), &world.authority).await;
    assert!(world.try_connect(copy).await.is_err());
    assert!(world.try_connect(bob).await.is_ok());
}

#[tokio::test]
async fn only_the_admin_can_delete_a_stream() {
    let world = World::new().await;
    let admin = world.try_connect(world.authority.role(Role::Admin)).await.unwrap();
    topology::apply(&admin, 1).await.unwrap();
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Admin) {
        let nats = world.try_connect(world.authority.role(role)).await.unwrap();
        assert_eq!(topology::plan(&nats, 1).await.unwrap(), topology::Plan::default(), "{}", role.name());
        for verb in ["DELETE", "PURGE", "SNAPSHOT", "UPDATE", "MSG.DELETE", "RESTORE"] {
            let subject = format!("$JS.API.STREAM.{verb}.EVENTS-0");
            let asked = nats.client.request(subject.clone(), "{}".into());
            let answer = tokio::time::timeout(crate::world::NOTHING, asked).await;
            assert!(!matches!(answer, Ok(Ok(_))), "{} {subject}", role.name());
        }
    }
    assert_eq!(topology::plan(&admin, 1).await.unwrap(), topology::Plan::default());
    admin.js.delete_stream("EVENTS-0").await.unwrap();
}

#[tokio::test]
async fn executors_answer_what_they_are_asked_to_plan_and_nothing_else() {
    let world = World::new().await;
    let executors = world.connect(world.authority.role(Role::Executors)).await;
    let vendor = "simwan".parse().unwrap();
    for (asker, question) in
        [(Role::Commands, subjects::PREVIEW.to_owned()), (Role::Dispatcher, rollout::estimate(&vendor))]
    {
        let asking = world.connect(world.authority.role(asker)).await;
        let mut asked = subscribe(&executors, &question).await;
        let reply = subjects::previewed("one");
        let mut answers = subscribe(&asking, &reply).await;
        let mut inbox = subscribe(&asking, &format!("_INBOX.{}.one", asker.name())).await;
        // Until the server knows who listens.
        let heard = async {
            while is_silent(&mut asked).await {
                asking.publish_with_reply(question.clone(), reply.clone(), "order".into()).await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("{question} was not heard"));
        executors.publish(format!("_INBOX.{}.one", asker.name()), "forged".into()).await.unwrap();
        executors.publish(reply.clone(), "plan".into()).await.unwrap();
        assert_eq!(next(&mut answers).await.0, reply, "{}", asker.name());
        assert!(is_silent(&mut inbox).await, "{}", asker.name());
    }
}

#[tokio::test]
async fn keys_are_for_their_owner_only_and_names_are_not_shared() {
    let world = World::new().await;
    world.account("acme").await;
    let creds = world.user("acme/anna", UserKind::Tenant, None);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&creds), 0o600);
    for file in ["operator.nk", "signing.nk", "accounts/acme.nk"] {
        assert_eq!(mode(&world.authority.dir().join(file)), 0o600, "{file}");
    }
    for dir in ["", "accounts", "creds", "creds/acme", "users"] {
        assert_eq!(mode(&world.authority.dir().join(dir)), 0o700, "{dir}");
    }
    let refused = |customer: Option<&str>, name: &str, kind| {
        let customer = customer.map(|customer| customer.parse().unwrap());
        world.authority.add_user(customer.as_ref(), &name.parse().unwrap(), kind, None, None).unwrap_err()
    };
    assert!(refused(Some("acme"), "executor", UserKind::Tenant).to_string().contains("wanwright's own"));
    assert!(refused(Some("acme"), "anna", UserKind::Reader).to_string().contains("there is a user"));
    assert!(refused(Some("nobody"), "eve", UserKind::Tenant).to_string().contains("nats account add nobody"));
    assert!(refused(None, "anna", UserKind::Operator).to_string().contains("apart"));
    assert!(refused(Some("acme"), "eve", UserKind::Operator).to_string().contains("without a customer"));
    assert!(refused(None, "eve", UserKind::Tenant).to_string().contains("CUSTOMER/NAME"));
    let names: Vec<String> =
        world.authority.accounts().unwrap().into_iter().map(|account| account.name).collect();
    assert_eq!(names, ["OPERATORS", "SYS", "WAN", "acme"]);
}

#[tokio::test]
async fn without_the_signing_key_nobody_is_let_in_and_everything_goes_on() {
    let mut world = World::new().await;
    world.account("acme").await;
    let signing = world.authority.dir().join("signing.nk");
    std::fs::remove_file(world.authority.dir().join("operator.nk")).unwrap();
    std::fs::remove_file(&signing).unwrap();
    let why = world.authority.add_account(&"globex".parse().unwrap()).unwrap_err().to_string();
    assert!(why.contains("signing.nk is not here"), "{why}");
    // The key of the account is enough for its users.
    let anna = world.user("acme/anna", UserKind::Tenant, None);
    world.server.stop(LIMIT).await;
    let keys = world.authority.dir().to_owned();
    world.authority =
        wanwright_nats::accounts::Authority::open_or_make(&keys, crate::world::PARTITIONS).unwrap();
    world.server = start(world.dir.path(), &world.authority).await;
    assert!(world.try_connect(anna).await.is_ok());
    assert!(!signing.exists());
}

/// The server does carry an answer on through the imports of the account that asked, if its reply subject falls under
/// one. What then arrives has lost its subject, and with it whom it would have spoken for. That is the server's doing and
/// not promised anywhere, so it is looked at here.
#[tokio::test]
async fn an_answer_is_no_command() {
    use futures::StreamExt;
    use wanwright_schemas::services::submitted;
    use wanwright_schemas::subjects::CommandSubject;
    let world = World::new().await;
    world.account("acme").await;
    let commands = world.connect(world.authority.role(Role::Commands)).await;
    let mut at_doors = vec![
        listen(&commands, "wan.decide.>").await,
        listen(&commands, "wan.do.>").await,
        listen(&commands, "wan.submit.>").await,
    ];
    let mut histories = listen(&commands, "wan.history.*.*").await;
    for (name, kind) in [("acme/ruth", UserKind::Reader), ("fleet-reader", UserKind::Reader)] {
        let reader = world.connect(world.user(name, kind, None)).await;
        let name = name.trim_start_matches("acme/");
        for door in ["do", "cmd"] {
            // A reader has itself answered where somebody else's commands go.
            let reply = format!("wan.{door}.acme.anna.site.oslo.decommission");
            reader.publish_with_reply(format!("wan.history.acme.{name}"), reply, "".into()).await.unwrap();
            let asked = tokio::time::timeout(LIMIT, histories.next()).await.unwrap().unwrap();
            commands.publish(asked.reply.unwrap(), "{}".into()).await.unwrap();
            for at_door in &mut at_doors {
                while let Ok(arrived) = tokio::time::timeout(NOTHING, at_door.next()).await {
                    let subject = arrived.unwrap().subject;
                    assert!(CommandSubject::parse(&subject).is_err(), "{name} {door} {subject}");
                    assert!(submitted(&subject).is_err(), "{name} {door} {subject}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_kind_does_what_it_is_for_and_nothing_else() {
    let world = World::new().await;
    world.account("acme").await;
    let commands = world.connect(world.authority.role(Role::Commands)).await;
    let mut requests = listen(&commands, "wan.decide.>").await;
    let mut histories = listen(&commands, "wan.history.*.*").await;
    for (user, kind, verbs) in [
        ("acme/anna", UserKind::Approver, &["approve", "reject"][..]),
        ("acme/ruth", UserKind::Reader, &[]),
        ("acme/tom", UserKind::Tenant, &["create", "decommission", "approve", "reject"]),
        ("olga", UserKind::Operator, &["create", "decommission", "approve", "reject"]),
        ("arthur", UserKind::Approver, &["approve", "reject"]),
    ] {
        let client = world.connect(world.user(user, kind, None)).await;
        let name = user.trim_start_matches("acme/");
        for verb in ["create", "decommission", "approve", "reject", "report"] {
            client.publish(format!("wan.do.acme.{name}.site.oslo.{verb}"), "{}".into()).await.unwrap();
        }
        // The last word of a longer subject is no verb.
        client.publish(format!("wan.do.acme.{name}.site.oslo.create.approve"), "{}".into()).await.unwrap();
        client.publish(format!("wan.history.acme.{name}"), "".into()).await.unwrap();
        assert_eq!(next(&mut histories).await.0, format!("wan.history.acme.{name}"));
        let mut heard = Vec::new();
        while let Ok(Some(request)) =
            tokio::time::timeout(NOTHING, futures::StreamExt::next(&mut requests)).await
        {
            heard.push(request.subject.rsplit('.').next().unwrap().to_owned());
        }
        let wanted: Vec<&str> = match kind {
            // A tenant's subjects are its own to misspell: the command service refuses them.
            UserKind::Tenant | UserKind::Operator => [verbs, &["report", "approve"]].concat(),
            _ => verbs.to_vec(),
        };
        assert_eq!(heard, wanted, "{user}");
    }
}

#[tokio::test]
async fn the_streams_of_a_server_with_logins_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    let mut options = wanwright_supervisor::NatsOptions::new(dir.path().join("nats"), cache);
    options.sync_interval = wanwright_supervisor::SyncInterval::Lazy;
    let server = wanwright_supervisor::Nats::start(&options).await.unwrap();
    let nats = wanwright_nats::connect(&server.url_with_login(), "test", 8).await.unwrap();
    topology::apply(&nats, 1).await.unwrap();
    nats.js.publish("wan.evt.7.acme", "kept".into()).await.unwrap().await.unwrap();
    server.stop(LIMIT).await;

    let authority = wanwright_nats::accounts::Authority::open_or_make(&dir.path().join("keys"), 8).unwrap();
    assert!(authority.adopt(&dir.path().join("nats/jetstream")).unwrap());
    assert!(!authority.adopt(&dir.path().join("nats/jetstream")).unwrap());
    let server = start(dir.path(), &authority).await;
    let access = wanwright_nats::Access::with_creds(server.url(), authority.role(Role::Admin));
    let nats = wanwright_nats::connect(access, "test", 8).await.unwrap();
    assert_eq!(topology::plan(&nats, 1).await.unwrap(), topology::Plan::default());
    let kept = wanwright_nats::load_subject(&nats, "EVENTS-7", "wan.evt.7.acme", 0).await.unwrap();
    assert_eq!(kept[0].payload, "kept");
}

#[tokio::test]
async fn every_role_learns_how_servers_store_and_nobody_outside_does() {
    let world = World::new().await;
    world.account("acme").await;
    let ask = async |client: async_nats::Client| {
        let asked = client.request(topology::SERVERS, "".into());
        tokio::time::timeout(Duration::from_secs(1), asked).await.ok().and_then(Result::ok)
    };
    for role in Role::ALL {
        let answer = ask(world.connect(world.authority.role(role)).await).await;
        let answer = answer.unwrap_or_else(|| panic!("{} has no answer", role.name()));
        let said: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(said.pointer("/data/config/sync_interval"), Some(&120_000_000_000_u64.into()), "{said}");
    }
    for (user, kind) in
        [("acme/anna", UserKind::Tenant), ("acme/rosa", UserKind::Reader), ("olga", UserKind::Operator)]
    {
        assert!(ask(world.connect(world.user(user, kind, None)).await).await.is_none(), "{user}");
    }
}
