//! Whether a vendor did what it was asked for, where its answer says that it is busy: GraphQL answers errors beside data.

use serde_json::Value;

/// Whether an answer that asks to slow down tells of work that was done all the same.
pub(super) fn has_worked(status: u16, body: &[u8]) -> bool {
    let told = || match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(answers)) => answers.iter().any(tells_of_work),
        Ok(answer) => tells_of_work(&answer),
        Err(_) => false,
    };
    (200..300).contains(&status) && told()
}

/// Whether any of the data was made. What is null was not, unless an error is about a part of it: GraphQL takes what it made
/// out of the answer with a part that it cannot show.
fn tells_of_work(answer: &Value) -> bool {
    let errors = answer.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match answer.get("data") {
        None | Some(Value::Null) => false,
        Some(data) if errors.is_empty() || !is_all_null(data) => true,
        Some(data) => errors.iter().any(|error| is_within_null(data, error)),
    }
}

fn is_all_null(data: &Value) -> bool {
    match data {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_all_null),
        _ => false,
    }
}

/// Whether an error is about a part of something that is null in the answer.
fn is_within_null(data: &Value, error: &Value) -> bool {
    let mut at = data;
    for step in error.get("path").and_then(Value::as_array).into_iter().flatten() {
        if at.is_null() {
            return true;
        }
        at = step.as_str().and_then(|field| at.get(field)).unwrap_or(&Value::Null);
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::has_worked;

    #[test]
    fn an_answer_whose_data_is_null_beside_errors_tells_of_no_work() {
        let busy = |path: Value| json!([{"message": "rate limit", "path": path}]);
        let made = |body: Value| has_worked(200, body.to_string().as_bytes());
        let errors = busy(json!(["x"]));
        assert!(!made(json!({"data": {"x": null}, "errors": errors})));
        assert!(!made(json!({"data": {"x": null}, "errors": [{"message": "rate limit"}]})));
        assert!(!made(json!({"data": {"a": {"x": null}}, "errors": busy(json!(["a", "x"]))})));
        assert!(!made(json!({"data": null, "errors": errors})));
        assert!(!made(json!({"errors": errors})));

        assert!(made(json!({"data": {"x": null}})), "what answers nothing has worked");
        assert!(made(json!({"data": {"x": {"id": "1"}}, "errors": errors})));
        assert!(made(json!({"data": {"x": null, "y": {"id": "1"}}, "errors": errors})), "one of two");
        assert!(
            made(json!({"data": {"x": null}, "errors": busy(json!(["x", "id"]))})),
            "made, and not shown"
        );
        assert!(
            made(json!([{"data": {"x": {"id": "1"}}}, {"data": {"x": null}, "errors": errors}])),
            "one of many"
        );
        assert!(!has_worked(429, br#"{"data": {"x": 1}}"#));
    }
}
