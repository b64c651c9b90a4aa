//! The command line in a tenant's hands: whatever is called about another customer says the same, byte for byte, as about
//! one that is not there, and takes as long.
//!
//! Two places to call it from. A tenant's own folder: it knows where NATS is and has a login, and what reads the tables
//! finds none, for no tenant has a login of Postgres. And the folder of whoever runs the system, whose Postgres is at hand:
//! there the login alone has to keep the door.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use wanwright_schemas::command::verbs;
use wanwright_schemas::ids::Kind;
use wanwright_tests::{Home, Program, Rows, Running, Said, Timing, level, mint};

use crate::support;

const SITE: &str = r#"{"vendor":"simwan","lan":["10.1.0.0/24"]}"#;

/// Who tries it: a user of each kind that a customer may have.
const TRIED_BY: [(&str, &str, &str); 3] =
    [("quay", "erik", "tenant"), ("forge", "frida", "approver"), ("weir", "gerda", "reader")];

/// Whose is tried, and who is not there; their names are as long as each other.
const THEIRS: &str = "mill";
const NOBODYS: &str = "barn";

/// How many processes run at once.
const AT_ONCE: usize = 3;

/// Anything that asks NATS, from either folder.
const ASKED: &str = "
    replay WHOM
    replay WHOM --raw --after 1
    watch WHOM
    watch WHOM --events
    log ORDER
    log ORDER --json
    log operation/ORDER --follow
    erase WHOM --yes
    reveal site WHOM/oslo
    reveal site WHOM/oslo -o json
    drift WHOM
    pause customer WHOM --reason x
    resume customer WHOM
    rollout plan simwan --to 2
    rollout start simwan --to 2 --canary WHOM
    rollout status simwan
    rollout stop simwan --reason x
    rollout rollback simwan
    dead list
    dead show 1 -o json
    dead requeue 1 --anyway
    dead drop 1 --yes
    state list --customer WHOM
    state history WHOM/oslo
    state show WHOM/oslo
    state show STACK
    state diff WHOM/oslo
    state pull WHOM/oslo
    state pull STACK --copy
    state restore WHOM/oslo
    state begin WHOM/oslo
    state seal
    keys rotate
    audit export DIR -c WHOM
    audit verify --live
    explain WHOM
";

/// What reads the tables or the keys: there are none in a tenant's own folder.
const OWN_FOLDER: &str = "
    get customers WHOM
    get sites oslo -c WHOM
    get sites -c WHOM --reveal
    get tunnels -c WHOM
    get devices -c WHOM -o json
    get operations -c WHOM
    get held -c WHOM
    get rollouts
    get plans -c WHOM
    get drift -c WHOM
    get timeline -c WHOM
    get outcomes COMMAND -c WHOM
    get queue -c WHOM
    get dead
    plan show WHOM/oslo
    drift WHOM --known
    rebuild --verify
    state backup DIR
    state restore --from DIR
    audit key
    audit accept EVENTS-0
    url creds
    url postgres
    nats account show WHOM
    nats account add WHOM
    nats account revoke WHOM
    nats user list WHOM
    nats user add WHOM/eve --kind tenant
    nats user revoke WHOM/dora
";

/// Names of the other in commands about one's own. Those who may send them are answered.
const IN_ONES_OWN: &str = "
    send site retry MINE/own {} --dry-run --id COMMAND
    send site retry MINE/own {} --dry-run --id COMMAND -o json
    send tunnel create MINE/t {\"site\":\"own\",\"peer\":{\"site\":\"WHOM/oslo\"},\"inside\":\"169.254.0.0/30\"} --dry-run --id COMMAND
    send tunnel create MINE/t {\"site\":\"own\",\"peer\":{\"site\":\"oslo\"},\"inside\":\"169.254.0.0/30\"} --dry-run --id COMMAND
    send device create MINE/d {\"site\":\"oslo\",\"model\":\"edge-100\",\"serial\":\"SN-DOORS-1\"} --dry-run --id COMMAND
    send customer suspend MINE {\"reason\":\"WHOM\"} --actor dora
";

/// A login, and the folder it is used in.
struct Caller {
    customer: &'static str,
    program: Program,
    home: Arc<Home>,
}

impl Caller {
    async fn new(
        running: &Running,
        (customer, user, kind): (&'static str, &str, &str),
        home: &Arc<Home>,
    ) -> Result<Self> {
        let creds = running.home.join(&format!("{user}.creds")).display().to_string();
        if !running.home.join(&format!("{user}.creds")).exists() {
            running.call(&["nats", "account", "add", customer]).await?.code(0)?;
            let name = format!("{customer}/{user}");
            let add = ["nats", "user", "add", &name, "--kind", kind, "--out", &creds];
            running.call(&add).await?.code(0)?;
        }
        let program = running.program.clone().with("WANWRIGHT_NATS", &running.endpoints.nats);
        // As a person has it: lines of the log have the time in them.
        let program = program.with("WANWRIGHT_NATS_CREDS", &creds).with("WANWRIGHT_LOG", "warn");
        Ok(Self { customer, program, home: Arc::clone(home) })
    }

    async fn call(&self, words: &[String]) -> Result<Said> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.program.call(&self.home, &words).await
    }
}

/// What stands for what in a line.
struct Names {
    names: Vec<(&'static str, String)>,
}

impl Names {
    fn words(&self, line: &str) -> Vec<String> {
        let all = |word: &str| {
            self.names.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value))
        };
        line.split_whitespace().map(all).collect()
    }

    /// What was said, with the names in place of what they stand for.
    fn plain(&self, said: &Said) -> (i32, String, String) {
        let plain = |text: &str| {
            self.names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(value.as_str(), name))
        };
        (said.code, plain(&said.out), plain(&said.err))
    }
}

/// What is known of the other, and of nobody.
async fn names(rows: &Rows, home: &Home) -> Result<[Names; 2]> {
    let one =
        async |sql: &str| rows.texts(sql).await?.into_iter().next().with_context(|| format!("no row: {sql}"));
    let named = |whom: &str, [order, stack, command]: [String; 3]| Names {
        names: vec![
            ("WHOM", whom.to_owned()),
            ("ORDER", order),
            ("STACK", stack),
            ("COMMAND", command),
            ("DIR", home.join(&format!("tmp/{whom}")).display().to_string()),
        ],
    };
    let theirs = [
        one(&format!("SELECT order_id::text FROM operations WHERE customer = '{THEIRS}'")).await?,
        one(&format!("SELECT uid::text FROM sites WHERE customer = '{THEIRS}'")).await?,
        one(&format!("SELECT command::text FROM outcomes WHERE customer = '{THEIRS}'")).await?,
    ];
    Ok([named(THEIRS, theirs), named(NOBODYS, [mint(), mint(), mint()])])
}

fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// Every verb, whoever it is for, through both doors.
fn every_verb() -> impl Iterator<Item = String> {
    let each = Kind::ALL.into_iter().flat_map(|kind| verbs(kind).iter().map(move |verb| (kind, *verb)));
    each.flat_map(|(kind, verb)| {
        let object = if kind == Kind::Customer { "WHOM" } else { "WHOM/oslo" };
        ["--dry-run", "--async"].map(|door| format!("send {kind} {verb} {object} {{}} {door}"))
    })
}

/// Calls a line about the other and about nobody; answers how long each took.
async fn compare(caller: &Caller, names: &[Names; 2], line: String) -> Result<[Duration; 2]> {
    let line = line.replace("MINE", caller.customer);
    let [theirs, nobodys] = names;
    let (one, other) = (caller.call(&theirs.words(&line)).await?, caller.call(&nobodys.words(&line)).await?);
    let told = (theirs.plain(&one), nobodys.plain(&other));
    ensure!(told.0 == told.1, "`{line}` of {}: {told:?}", caller.customer);
    let is_ones_own = line.contains(caller.customer);
    let is_refused = one.code != 0 && (one.out.is_empty() || one.out.starts_with("refused"));
    ensure!(is_ones_own || is_refused, "`{line}`: {one:?}");
    Ok([one.took, other.took])
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_anothers_and_what_is_nobodys_are_one_at_the_command_line() -> Result<()> {
    let timing = Timing::of("the command line in tenants' hands");
    let running = support::shared().await?;
    let dora = Caller::new(running, (THEIRS, "dora", "tenant"), &running.home).await?;
    let create = ["send", "site", "create", "mill/oslo", SITE].map(str::to_owned);
    dora.call(&create).await?.code(0)?;
    let rows = running.rows().await?;
    rows.healthy(THEIRS, 1, level::LONG).await?;
    let names = names(&rows, &running.home).await?;

    let mut times = Vec::new();
    for (number, who) in TRIED_BY.into_iter().enumerate() {
        let inside = Caller::new(running, who, &running.home).await?;
        let outside = Caller::new(running, who, &support::home()?).await?;
        if number == 0 {
            let create = ["send", "site", "create", "quay/own", SITE].map(str::to_owned);
            inside.call(&create).await?.code(0)?;
        }
        // The verbs are refused where the others are: one of the three is enough.
        let verbs: Vec<String> = if number == 0 { every_verb().collect() } else { Vec::new() };
        let inside_lines = verbs.into_iter().chain(lines(ASKED)).chain(lines(IN_ONES_OWN));
        let outside_lines = lines(ASKED).chain(lines(OWN_FOLDER));
        let calls =
            inside_lines.map(|line| (&inside, line)).chain(outside_lines.map(|line| (&outside, line)));
        let names = &names;
        let took = futures::stream::iter(calls.map(|(caller, line)| compare(caller, names, line)));
        let took: Vec<[Duration; 2]> = took.buffer_unordered(AT_ONCE).try_collect().await?;
        timing.say(format_args!("{} of {}: {} calls", who.1, who.0, took.len() * 2));
        times.extend(took);
    }
    let [theirs, nobodys] = [0, 1].map(|which| median(times.iter().map(|both| both[which])));
    timing.say(format_args!("{theirs:.1?} about another, {nobodys:.1?} about nobody"));
    let noticed = Duration::from_millis(20).max(theirs.min(nobodys) / 2);
    ensure!(theirs.abs_diff(nobodys) < noticed, "{theirs:?} about another, {nobodys:?} about nobody");

    // None of it came to anything, and nobody came to be.
    let history = dora.call(&["replay", "mill", "--raw"].map(str::to_owned)).await?.code(0)?.out;
    for (_, user, _) in TRIED_BY {
        ensure!(history.contains("SiteCreated") && !history.contains(user), "{history}");
    }
    let empty = running.call(&["replay", NOBODYS]).await?.code(0)?;
    ensure!(empty.out.is_empty(), "{}", empty.out);
    let accounts = running.call(&["nats", "account", "list"]).await?.code(0)?;
    ensure!(!accounts.out.contains(NOBODYS), "{}", accounts.out);
    Ok(())
}

/// The role that only reads is one for the fleet: it reads everybody's rows, there are no rows of one's own, and so it is
/// for no tenant. What is sealed it does not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_reads_the_tables_is_the_fleets_and_reads_no_state() -> Result<()> {
    let running = support::shared().await?;
    let customer = running.customer("loft").await?;
    customer.site("oslo", 1, 0, 0).await?;
    let rows = running.rows().await?;
    rows.healthy("loft", 1, level::LONG).await?;
    sqlx::query("CREATE ROLE doors_reader LOGIN PASSWORD 'doors' IN ROLE wanwright_reader")
        .execute(&rows.pool)
        .await?;
    let (_, place) = running.endpoints.postgres.split_once('@').context("a login")?;
    let url = format!("postgres://doors_reader:doors@{place}");
    let reader = Caller::new(running, ("attic", "hanna", "tenant"), &support::home()?).await?;
    let program = reader.program.clone().with("WANWRIGHT_POSTGRES", &url);
    let call = async |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        program.call(&reader.home, &words).await
    };
    let seen = call("get sites -c loft -o name").await?.code(0)?;
    ensure!(seen.out.contains("loft/oslo"), "{seen:?}");
    for line in ["state backup backup", "state list", "state pull loft/oslo", "reveal site loft/oslo"] {
        let said = call(line).await?;
        let is_refused = said.err.contains("permission denied") || said.err.contains("has no right");
        ensure!(said.code != 0 && said.out.is_empty() && is_refused, "`{line}`: {said:?}");
    }
    Ok(())
}
