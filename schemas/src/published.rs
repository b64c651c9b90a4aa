//! JSON Schemas of everything on the wire, as they are committed under `json/`.
//!
//! Written by `cargo run -p wanwright-schemas --example json-schemas`.

/// Every schema: its name and its text.
pub const ALL: &[(&str, &str)] = &[
    ("customer.check-drift", include_str!("../json/customer.check-drift.json")),
    ("customer.erase", include_str!("../json/customer.erase.json")),
    ("device.change", include_str!("../json/device.change.json")),
    ("device.check-drift", include_str!("../json/device.check-drift.json")),
    ("device.create", include_str!("../json/device.create.json")),
    ("device.decommission", include_str!("../json/device.decommission.json")),
    ("device.report", include_str!("../json/device.report.json")),
    ("device.retry", include_str!("../json/device.retry.json")),
    ("effect", include_str!("../json/effect.json")),
    ("envelope", include_str!("../json/envelope.json")),
    ("event", include_str!("../json/event.json")),
    ("object", include_str!("../json/object.json")),
    ("order", include_str!("../json/order.json")),
    ("outcome", include_str!("../json/outcome.json")),
    ("run", include_str!("../json/run.json")),
    ("site.change", include_str!("../json/site.change.json")),
    ("site.check-drift", include_str!("../json/site.check-drift.json")),
    ("site.create", include_str!("../json/site.create.json")),
    ("site.decommission", include_str!("../json/site.decommission.json")),
    ("site.report", include_str!("../json/site.report.json")),
    ("site.retry", include_str!("../json/site.retry.json")),
    ("tunnel.change", include_str!("../json/tunnel.change.json")),
    ("tunnel.create", include_str!("../json/tunnel.create.json")),
    ("tunnel.decommission", include_str!("../json/tunnel.decommission.json")),
    ("tunnel.retry", include_str!("../json/tunnel.retry.json")),
];
