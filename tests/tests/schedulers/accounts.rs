//! Customers with accounts of their own at one vendor, from the command to the vendor's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wanwright_executors::scheduler::Patience;
use wanwright_schemas::Reason;
use wanwright_schemas::run::RunEvent;
use wanwright_tests::level;

use crate::world::{LIMIT, TOKEN, World, schedule};

/// Stands before the vendor and knows the accounts: the first one's calls are too many for a minute, the second one's are
/// passed on. Answers its URL, and how many calls of the first one it heard.
async fn front(vendor: String) -> (String, Arc<AtomicUsize>) {
    let (http, heard) =
        (reqwest::Client::builder().no_proxy().build().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&heard);
    let answer = async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| -> Response {
        let token = headers.get("authorization").and_then(|token| token.to_str().ok()).unwrap_or_default();
        match token {
            "Bearer acmes-token" => {
                counted.fetch_add(1, Ordering::SeqCst);
                (axum::http::StatusCode::TOO_MANY_REQUESTS, [("retry-after", "60")]).into_response()
            }
            "Bearer globexs-token" => {
                let url = format!("{}{uri}", vendor.trim_end_matches('/'));
                let mut headers = headers.clone();
                for replaced in ["host", "content-length", "authorization"] {
                    headers.remove(replaced);
                }
                let call = http.request(method, url).headers(headers).bearer_auth(TOKEN).body(body);
                let answer = call.send().await.unwrap();
                (answer.status(), answer.bytes().await.unwrap()).into_response()
            }
            _ => panic!("a call with {token}, which is nobody's"),
        }
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    (url, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_that_has_to_wait_holds_up_no_other_and_one_that_is_gone_fails_its_orders() {
    let world = World::new(0).await;
    let mut place = world.place("one");
    let account = |customer: &str| {
        let file = place.vendors.parent().unwrap().join(customer);
        std::fs::write(&file, format!("{customer}s-token")).unwrap();
        let file = file.display();
        format!("\n[accounts.{customer}]\nfile = \"{file}\"\ncustomers = [\"{customer}\"]\n")
    };
    let accounts = account("acme") + &account("globex");
    let without = world.folder("vendor.toml");
    world.write_folder("vendor.toml", &(without.clone() + &accounts));
    for customer in ["acme", "globex"] {
        let own = json!({"accounts": {"simwan": {"credential": customer, "budget": customer}}});
        world.until_accepted(&format!("{customer}.demo.customer.{customer}.change"), &own).await;
    }
    let (acme, globex) = (world.customer("acme").await, world.customer("globex").await);
    // More than there are runs of a lane at once.
    for number in 0..40 {
        world.device(&acme, &format!("edge-{number}")).await;
    }
    let (url, heard) = front(place.vendor_url).await;
    place.vendor_url = url;
    let (stop, (open, opened)) = (CancellationToken::new(), tokio::sync::oneshot::channel());
    let ready = move || open.send(()).unwrap();
    let running = tokio::spawn(schedule(place, Patience::default(), stop.clone(), ready));
    tokio::time::timeout(LIMIT, opened).await.unwrap().unwrap();
    level::until("acme is told to wait", LIMIT, async || Ok(heard.load(Ordering::SeqCst) > 0)).await.unwrap();
    for number in 0..3 {
        let device = format!("edge-{number}");
        world.device(&globex, &device).await;
        world.until_event(&globex, &device, "DeviceApplied").await;
    }
    assert!(heard.load(Ordering::SeqCst) < 10, "acme waits: {heard:?}");
    assert_eq!(world.devices().await.totals.creations, 3);

    world.write_folder("vendor.toml", &without);
    // Until the executors have seen the folder, the account is there.
    let mut number = 3;
    let edge = loop {
        let device = format!("edge-{number}");
        world.device(&globex, &device).await;
        let ended = level::reach("its order ends", LIMIT, async || {
            let event = world.last_event(&globex, &device).await;
            Ok((event != "DeviceCreated").then_some(event))
        });
        match ended.await.unwrap().0.as_str() {
            "DeviceApplied" => number += 1,
            event => {
                assert_eq!(event, "DeviceFailed");
                break device;
            }
        }
    };
    // A run's last records are written behind its report.
    let failed = level::reach("its end is recorded", LIMIT, async || {
        let failed = world.records("globex").await.into_iter().find_map(|record| match record.event {
            RunEvent::Failed { code, message, .. } => Some((code, message)),
            _ => None,
        });
        Ok(failed)
    });
    let ((code, message), _) = failed.await.unwrap();
    assert_eq!(code, Reason::UnknownAccount);
    assert!(message.contains("no account `globex` for globex"), "{message}");
    world.write_folder("vendor.toml", &(without + &accounts));
    // Until they have seen it again, the account is still gone.
    level::until("it is retried and applied", LIMIT, async || {
        let event = world.last_event(&globex, &edge).await;
        if event == "DeviceFailed" {
            world.until_accepted(&format!("globex.demo.device.{edge}.retry"), &json!({})).await;
        }
        Ok(event == "DeviceApplied")
    })
    .await
    .unwrap();
    stop.cancel();
    tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
}
