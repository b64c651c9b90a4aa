//! Figures as a report gives them: no more digits than the measurement has.

use serde::Serializer;

/// A value to so many decimals.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

/// Times a second, to a tenth.
pub fn rate(per_second: f64) -> f64 {
    rounded(per_second, 1)
}

/// Milliseconds, to a thousandth.
pub fn millis(millis: f64) -> f64 {
    rounded(millis, 3)
}

/// Seconds, to a thousandth.
pub fn seconds(seconds: f64) -> f64 {
    rounded(seconds, 3)
}

/// One figure by another, to a thousandth.
pub fn ratio(of: f64, by: f64) -> f64 {
    rounded(of / by, 3)
}

/// [`rate`], in a report.
pub fn write_rate<S: Serializer>(per_second: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rate(*per_second))
}

/// [`millis`], in a report.
pub fn write_millis<S: Serializer>(time: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(millis(*time))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::commands::work::Measured;

    #[test]
    fn a_report_has_no_more_digits_than_were_measured() {
        let latencies = [1_234_567, 2_000_000, 41_000_049].map(Duration::from_nanos).to_vec();
        let measured = Measured::new("x", latencies, Duration::from_millis(700));
        let text = serde_json::to_string(&measured).expect("a report");
        assert_eq!(text, r#"{"name":"x","per_second":4.3,"p50":2.0,"p99":2.0,"max":41.0}"#);
        assert_eq!(ratio(2.0, 3.0), 0.667);
        assert_eq!(seconds(1.000_499_9), 1.0);
        // What was not measured is no number.
        let none = Measured::new("x", Vec::new(), Duration::from_millis(700));
        let text = serde_json::to_string(&none).expect("a report");
        assert_eq!(text, r#"{"name":"x","per_second":0.0,"p50":null,"p99":null,"max":null}"#);
    }
}
