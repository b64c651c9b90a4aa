//! The fold of EVENTS-*: the rows a batch touches, loaded at once, changed in memory, saved at once.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::PgConnection;
use wanwright_schemas::{CustomerId, Event, Kind, ObjectRef, VendorId};

use crate::error::{Error, Stop};
use crate::message::EventMessage;
use crate::models::customers::CustomerKey;
use crate::models::drift_reports::{self, DriftReportKey};
use crate::models::lifecycle::At;
use crate::models::object::{ObjectKey, ObjectRow, Step, step};
use crate::models::plans::{self, PlanKey};
use crate::models::{
    CustomerRow, DeviceRow, DriftReportRow, OutcomeRow, PlanRow, SiteRow, TimelineRow, TunnelRow,
};
use crate::table::{self, Slots, Table};

/// An object whose row changed: what `wan.live.…` says.
pub type Touched = BTreeSet<(CustomerId, ObjectRef)>;

/// The rows of all event read models that a batch touches.
#[derive(Debug, Clone, Default)]
pub struct EventRows {
    /// `customers`.
    pub customers: Slots<CustomerRow>,
    /// `sites`.
    pub sites: Slots<SiteRow>,
    /// `tunnels`.
    pub tunnels: Slots<TunnelRow>,
    /// `devices`.
    pub devices: Slots<DeviceRow>,
    /// `drift_reports`.
    pub drift_reports: Slots<DriftReportRow>,
    /// `plans`.
    pub plans: Slots<PlanRow>,
    /// `timeline`: only ever added to.
    pub timeline: Vec<TimelineRow>,
    /// `outcomes`, of commands that decided something.
    pub outcomes: Slots<OutcomeRow>,
    /// From when on outcomes get rows: older ones would be pruned at once.
    pub outcomes_since: Timestamp,
    /// Whose rows changed.
    pub touched: Touched,
}

impl EventRows {
    /// Folds a message. A message that is refused leaves the rows as they were.
    pub fn fold(&mut self, message: &EventMessage) -> Result<(), Stop> {
        let key = CustomerKey { customer: message.customer.clone() };
        let mut customer = CustomerRow::after(self.customers.get(&key), message)?;
        let at = At {
            stream: message.stream.clone(),
            sequence: message.sequence,
            time: message.envelope.time,
            command: message.envelope.command,
        };
        self.touched.insert((message.customer.clone(), ObjectRef::Customer(message.customer.clone())));
        for (index, event) in (0..).zip(&message.envelope.events) {
            let object = event.object();
            let mut step = self.step(&message.customer, event, &at);
            if let Event::Customer(_, change) = event {
                step.changes = customer.settings.evolve(change, at.time);
            }
            customer.counts.count(object.kind(), &step);
            self.timeline.push(TimelineRow::of(message, index, event, step.changes));
            self.touched.insert((message.customer.clone(), object));
        }
        self.customers.put(customer);
        if message.envelope.time >= self.outcomes_since {
            self.outcomes.put(OutcomeRow::of_events(message));
        }
        Ok(())
    }

    fn step(&mut self, customer: &CustomerId, event: &Event, at: &At) -> Step {
        let object = ObjectKey { customer: customer.clone(), id: event.object().id().to_owned() };
        let vendor = self.vendor(customer, event);
        let kind = event.object().kind();
        let drift = &mut self.drift_reports;
        match event {
            Event::Site(id, change) => {
                let step = step(&mut self.sites, (customer, id), change, vendor, at);
                drift_reports::follow(drift, kind, &object, change, &step, at);
                plans::follow(&mut self.plans, (customer, id), change, step.plan, at);
                step
            }
            Event::Tunnel(id, change) => {
                let step = step(&mut self.tunnels, (customer, id), change, vendor, at);
                drift_reports::follow(drift, kind, &object, change, &step, at);
                step
            }
            Event::Device(id, change) => {
                let step = step(&mut self.devices, (customer, id), change, vendor, at);
                drift_reports::follow(drift, kind, &object, change, &step, at);
                step
            }
            Event::Customer(..) => Step::default(),
        }
    }

    /// The vendor of the site that a new tunnel or device belongs to.
    fn vendor(&self, customer: &CustomerId, event: &Event) -> Option<VendorId> {
        let key = site_of(customer, event)?;
        self.sites.get(&key).map(|site| site.vendor.clone())
    }

    /// Loads the rows that these messages touch.
    pub(crate) async fn load(
        connection: &mut PgConnection,
        schema: &str,
        messages: &[EventMessage],
    ) -> Result<Self, Error> {
        let mut rows = Self::default();
        let mut customers = BTreeSet::new();
        let [mut sites, mut tunnels, mut devices] = [const { BTreeSet::new() }; 3];
        let mut reports = BTreeSet::new();
        for message in messages {
            customers.insert(CustomerKey { customer: message.customer.clone() });
            for event in &message.envelope.events {
                let object = event.object();
                let key = ObjectKey { customer: message.customer.clone(), id: object.id().to_owned() };
                match object.kind() {
                    Kind::Tunnel => tunnels.insert(key),
                    Kind::Device => devices.insert(key),
                    Kind::Site => sites.insert(key),
                    Kind::Customer => false,
                };
                sites.extend(site_of(&message.customer, event));
            }
        }
        rows.customers.load(connection, schema, &customers).await?;
        rows.sites.load(connection, schema, &sites).await?;
        rows.tunnels.load(connection, schema, &tunnels).await?;
        rows.devices.load(connection, schema, &devices).await?;
        open_reports(&rows.sites, &mut reports);
        open_reports(&rows.tunnels, &mut reports);
        open_reports(&rows.devices, &mut reports);
        rows.drift_reports.load(connection, schema, &reports).await?;
        let open = rows.sites.rows().filter_map(|site| {
            let order_id = site.life().state.plan?;
            Some(PlanKey { customer: site.customer.clone(), site: site.id.clone(), order_id })
        });
        let open: BTreeSet<PlanKey> = open.collect();
        rows.plans.load(connection, schema, &open).await?;
        Ok(rows)
    }

    /// Saves what was changed.
    pub(crate) async fn save(&self, connection: &mut PgConnection, schema: &str) -> Result<(), Error> {
        self.customers.save(connection, schema).await?;
        self.sites.save(connection, schema).await?;
        self.tunnels.save(connection, schema).await?;
        self.devices.save(connection, schema).await?;
        self.drift_reports.save(connection, schema).await?;
        self.plans.save(connection, schema).await?;
        self.outcomes.save(connection, schema).await?;
        table::write(connection, schema, &self.timeline.iter().collect::<Vec<_>>()).await
    }
}

fn site_of(customer: &CustomerId, event: &Event) -> Option<ObjectKey> {
    use wanwright_schemas::Change::Created;
    let site = match event {
        Event::Tunnel(_, Created { spec, .. }) => &spec.site,
        Event::Device(_, Created { spec, .. }) => &spec.site,
        _ => return None,
    };
    Some(ObjectKey { customer: customer.clone(), id: site.to_string() })
}

/// The report that is open for an object is the one its row names.
fn open_reports<T: ObjectRow>(rows: &Slots<T>, keys: &mut BTreeSet<DriftReportKey>) {
    for row in rows.rows() {
        let ObjectKey { customer, id } = row.key();
        if let Some(drift) = &row.life().state.drift {
            keys.insert(DriftReportKey { customer, kind: T::KIND, id, check_command: drift.check });
        }
    }
}

/// The tables that hold the fold of EVENTS-*, and their keys.
pub(crate) const TABLES: &[(&str, &[&str])] = &[
    (CustomerRow::NAME, CustomerRow::KEY),
    (SiteRow::NAME, SiteRow::KEY),
    (TunnelRow::NAME, TunnelRow::KEY),
    (DeviceRow::NAME, DeviceRow::KEY),
    (DriftReportRow::NAME, DriftReportRow::KEY),
    (PlanRow::NAME, PlanRow::KEY),
    (TimelineRow::NAME, TimelineRow::KEY),
    (OutcomeRow::NAME, OutcomeRow::KEY),
];

/// Which rows of a table must be the fold of the events, in SQL over a row and a time: what is pruned may be there still
/// or not.
pub(crate) fn kept(table: &str, row: &str, since: &str) -> String {
    if table == OutcomeRow::NAME { format!("{row}.time > '{since}'::timestamptz") } else { "true".to_owned() }
}
