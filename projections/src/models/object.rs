//! What the three kinds of objects have in common: a row that a change makes, changes or takes away.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wanwright_schemas::contact::HasContact;
use wanwright_schemas::{Change, CustomerId, Kind, VendorId};

use super::diff::{FieldChange, differences};
use super::lifecycle::{At, Lifecycle};
use super::state::{Drift, Health, Sync};
use crate::table::{Slots, Table};

/// The key of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The customer.
    pub customer: CustomerId,
    /// The object.
    pub id: String,
}

/// A row of sites, tunnels or devices.
pub trait ObjectRow: Table<Key = ObjectKey> {
    /// The object's id.
    type Id: std::fmt::Display;
    /// What the object should be.
    type Spec: Serialize + Clone + HasContact;
    /// The object's kind.
    const KIND: Kind;
    /// The row of an object that was just created. `vendor` is that of the site it belongs to.
    fn created(
        customer: &CustomerId,
        id: &Self::Id,
        spec: &Self::Spec,
        vendor: Option<VendorId>,
        life: Lifecycle,
    ) -> Self;
    /// Puts another specification in place.
    fn respecify(&mut self, spec: &Self::Spec);
    /// Notes which version of a template it was given, before the change makes something of the other columns.
    fn retemplate(&mut self, _: &Change<Self::Spec>) {}
    /// The specification.
    fn spec(&self) -> &Self::Spec;
    /// The columns that all objects share.
    fn life(&self) -> &Lifecycle;
    /// The same, to be changed.
    fn life_mut(&mut self) -> &mut Lifecycle;
}

/// The words that are counted per customer.
pub type Words = (Health, Sync);

/// What a change did to an object's row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// The words before; none when there was no row.
    pub before: Option<Words>,
    /// The words after; none when there is no row any more.
    pub after: Option<Words>,
    /// The drift that was open before.
    pub drift: Option<Drift>,
    /// The plan that was open before.
    pub plan: Option<Uuid>,
    /// Field by field what changed.
    pub changes: Option<Vec<FieldChange>>,
}

/// Applies a change to the row of its object.
pub fn step<T: ObjectRow>(
    rows: &mut Slots<T>,
    (customer, id): (&CustomerId, &T::Id),
    change: &Change<T::Spec>,
    vendor: Option<VendorId>,
    at: &At,
) -> Step {
    let key = &ObjectKey { customer: customer.clone(), id: id.to_string() };
    let words = |row: &T| (row.life().state.health, row.life().state.sync);
    let mut step = Step {
        before: rows.get(key).map(words),
        drift: rows.get(key).and_then(|row| row.life().state.drift.clone()),
        plan: rows.get(key).and_then(|row| row.life().state.plan),
        ..Step::default()
    };
    match change {
        Change::Created { generation, spec, .. } => {
            rows.put(T::created(customer, id, spec, vendor, Lifecycle::created(*generation, at)));
        }
        change if change.is_end() => rows.remove(key),
        _ => {
            if let Some(row) = rows.get_mut(key) {
                if let Change::Changed { spec, .. } = change {
                    step.changes = Some(differences(row.spec(), spec));
                    row.respecify(spec);
                }
                if let Change::ContactChanged { contact } = change {
                    let mut spec = row.spec().clone();
                    spec.set_contact(contact.clone());
                    step.changes = Some(differences(row.spec(), &spec));
                    row.respecify(&spec);
                }
                row.retemplate(change);
                row.life_mut().evolve(change, at);
            }
        }
    }
    if let Change::DriftFound { fields, .. } = change {
        step.changes = Some(fields.iter().map(FieldChange::from).collect());
    }
    step.after = rows.get(key).map(words);
    step
}
