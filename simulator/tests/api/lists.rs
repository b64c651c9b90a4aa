use serde_json::{Value, json};

use crate::support::{Bench, device};

fn names(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn pages_have_a_hundred_objects_and_leave_none_out() {
    let bench = Bench::start().await;
    for number in 0..205 {
        bench.caller.site(&format!("s{number}")).await;
    }
    let mut path = "/v1/sites".to_owned();
    let mut sizes = Vec::new();
    let mut found = Vec::new();
    loop {
        let page = bench.caller.get(&path).await.body;
        sizes.push(names(&page).len());
        found.extend(names(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(cursor) => {
                path = format!("/v1/sites?cursor={cursor}");
                // What the cursor stands for may be gone by the next page.
                assert_eq!(bench.caller.delete(&format!("/v1/sites/{cursor}")).await.status, 204);
            }
            None => break,
        }
    }
    assert_eq!(sizes, [100, 100, 5]);
    assert_eq!(found, (0..205).map(|number| format!("s{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_last_page_has_no_next() {
    let bench = Bench::start().await;
    for number in 0..100 {
        bench.caller.site(&format!("s{number}")).await;
    }
    let page = bench.caller.get("/v1/sites").await.body;
    assert_eq!((names(&page).len(), &page["next"]), (100, &Value::Null));
}

#[tokio::test]
async fn filters_are_exact() {
    let bench = Bench::start().await;
    let first = bench.caller.site("a b&c").await;
    let second = bench.caller.site("a").await;
    for (name, site) in [("d1", &first), ("d2", &second), ("d3", &first)] {
        bench.caller.post("/v1/devices", None, &device(name, site, name)).await;
    }
    let caller = &bench.caller;
    assert_eq!(names(&caller.get("/v1/sites?name=a").await.body), ["a"]);
    assert_eq!(names(&caller.get("/v1/sites?name=a%20b%26c").await.body), ["a b&c"]);
    assert_eq!(caller.get("/v1/sites?name=none").await.body, json!({ "items": [], "next": null }));
    assert_eq!(names(&caller.get(&format!("/v1/devices?site_id={first}")).await.body), ["d1", "d3"]);
    let both = format!("/v1/devices?site_id={first}&name=d2");
    assert_eq!(names(&caller.get(&both).await.body), Vec::<&str>::new());
    let both = format!("/v1/devices?site_id={first}&name=d3");
    assert_eq!(names(&caller.get(&both).await.body), ["d3"]);
}

#[tokio::test]
async fn unknown_parameters_and_cursors_are_refused() {
    let bench = Bench::start().await;
    for query in ["cursor=zzz", "cursor=", "colour=red", "site_id=st-000001"] {
        let answer = bench.caller.get(&format!("/v1/sites?{query}")).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_field"), "{query}");
    }
}
