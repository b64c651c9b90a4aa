//! A vendor of a few lines that answers what it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use wanwright_vendors::{ClientOptions, ResourceApi, ResourceClient, VendorHttp};

/// What was asked, as `METHOD uri key body`, and what is answered next.
#[derive(Default)]
pub struct Script {
    pub asked: Vec<String>,
    pub answers: VecDeque<Answer>,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
    pub after: Duration,
}

pub fn answer(status: u16, body: impl ToString) -> Answer {
    Answer { status, headers: Vec::new(), body: body.to_string(), after: Duration::ZERO }
}

pub type Shared = Arc<Mutex<Script>>;

async fn handle(
    State(script): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut script = script.lock().unwrap();
        let header = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap());
        let (key, run) = (header("idempotency-key"), header("x-run"));
        let body = String::from_utf8_lossy(&body);
        script.asked.push(format!("{method} {uri} {key} {run} {body}").trim().to_owned());
        script.answers.pop_front().unwrap_or_else(|| answer(500, "nothing scripted"))
    };
    tokio::time::sleep(answer.after).await;
    let status = StatusCode::from_u16(answer.status).unwrap();
    let mut response = (status, answer.body).into_response();
    for (name, value) in answer.headers {
        response.headers_mut().append(name, HeaderValue::from_static(value));
    }
    response
}

/// A vendor on a loopback port that gives these answers, and its base URL.
pub async fn serve(answers: impl IntoIterator<Item = Answer>) -> (Shared, String) {
    let script = Shared::default();
    script.lock().unwrap().answers.extend(answers);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/run/7/", listener.local_addr().unwrap());
    let app = Router::new().fallback(handle).with_state(script.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (script, base_url)
}

/// A client of that vendor.
pub fn client(base_url: &str, api: Arc<ResourceApi>) -> ResourceClient {
    let http = VendorHttp::new(&ClientOptions {
        base_url: base_url.to_owned(),
        connect_timeout: Duration::from_secs(1),
        call_timeout: Duration::from_millis(500),
        headers: vec![("X-Run".to_owned(), "7".to_owned())],
    })
    .unwrap();
    ResourceClient::new(http, api)
}
