//! Vendors quote what they were sent, each in the writing of its own JSON library; none of it shows a secret.

use serde_json::{Value, json};
use wanwright_executors::gateway::RunContext;

use crate::standin::{Heard, StandIn, answer};
use crate::world::World;

const TOKEN: &str = "Zq1+Token/9f<&'>==";
const KEY: &str = "Zq2+\"pre\\shared\"/kéy=<𝄞>";

/// A text as Gson, System.Text.Json and PHP write it, and with all signs escaped, in both cases.
fn writings(text: &str) -> [String; 5] {
    let quoted = Value::from(text).to_string();
    let quoted = &quoted[1..quoted.len() - 1];
    let escaped = |signs: &str, capitals: bool| {
        let mut written = quoted.to_owned();
        for sign in signs.chars() {
            let hex = format!("{:04x}", u32::from(sign));
            let hex = if capitals { hex.to_uppercase() } else { hex };
            written = written.replace(sign, &format!("\\u{hex}"));
        }
        written
    };
    let all = |capitals: bool| -> String {
        let hex = |unit| if capitals { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
        text.encode_utf16().map(hex).collect()
    };
    let php = quoted.replace('/', "\\/");
    [escaped("=<>&'", false), escaped("+<>&'é", true), php, all(false), all(true)]
}

/// What the vendor answers that had this to quote: JSON, JSON in JSON, and what only says that it is JSON.
fn answers(quoted: &str) -> [String; 4] {
    let message = format!(r#"{{ "n":1e400,"big":12345678901234567890.10,"message":"not `{quoted}`" }}"#);
    [
        message.clone(),
        format!(r#"{{"headers":{{"{quoted}":["{quoted}",1.0]}}}}"#),
        json!({ "inner": message }).to_string(),
        message.replace(" }", ""),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_masked_whatever_library_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("acme")).unwrap();
    std::fs::write(dir.path().join("acme/oslo"), KEY).unwrap();
    let mut world = World::with("per_second = 500\nburst = 500\n", 50, 50).await;
    world.replace_in_folder(
        "env = \"WANWRIGHT_SIMWAN_SECRETS\"",
        &format!("dir = \"{}\"", dir.path().display()),
    );
    std::fs::write(world.credential(), TOKEN).unwrap();
    // It quotes the header or a field, as the path says, and answers so.
    let vendor = StandIn::start(|heard: &Heard| {
        let parts: Vec<&str> = heard.path.split('/').skip(1).collect();
        let sent: Value = serde_json::from_str(&heard.body).unwrap();
        let said = match parts[0] {
            "token" => heard.header("authorization"),
            "key" => sent["psk"].as_str().unwrap(),
            _ => "nothing =+<",
        };
        let number = |at: usize| parts[at].parse::<usize>().unwrap();
        answer(422, answers(&writings(said)[number(1)])[number(2)].clone())
    })
    .await;
    let process = world.process_to(&vendor.url).await;
    let context = RunContext { secrets: vec!["oslo".to_owned()], ..World::context("edge-01") };
    let opened = process.gateway.open(context);
    for (what, shown) in [("token", "Bearer ***"), ("key", "secret:oslo"), ("nothing", "nothing =+<")] {
        for writing in 0..5 {
            // Around the secret nothing is written anew.
            let shown = if what == "nothing" { writings(shown)[writing].clone() } else { shown.to_owned() };
            for (number, wanted) in answers(&shown).into_iter().enumerate() {
                let url = format!("{}/{what}/{writing}/{number}", opened.base_url());
                let call = world.http.post(url).json(&json!({"psk": "secret:oslo"}));
                let body = call.send().await.unwrap().text().await.unwrap();
                let around = |body: &str| if writing < 3 { body.to_owned() } else { unescaped(body) };
                assert_eq!(around(&body), around(&wanted), "{what} {writing} {number}");
            }
        }
    }
    process.stop.cancel();
}

/// Where all signs are escaped, those of `Bearer ` are.
fn unescaped(body: &str) -> String {
    let mut body = body.to_owned();
    for sign in "Bearer nothig=+<".chars() {
        for hex in [format!("{:04x}", u32::from(sign)), format!("{:04X}", u32::from(sign))] {
            body = body.replace(&format!("\\\\u{hex}"), &sign.to_string());
            body = body.replace(&format!("\\u{hex}"), &sign.to_string());
        }
    }
    body
}
