//! `devices`: one row per device.

use serde::{Deserialize, Serialize};
use wanwright_schemas::spec::DeviceSpec;
use wanwright_schemas::{Contact, CustomerId, DeviceId, Kind, SiteId, VendorId};

use super::lifecycle::Lifecycle;
use super::object::{ObjectKey, ObjectRow};
use crate::table::Table;

/// A row of `devices`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// The customer.
    pub customer: CustomerId,
    /// The device.
    pub id: DeviceId,
    /// The site it stands at.
    pub site: SiteId,
    /// The vendor, taken from the site.
    pub vendor: Option<VendorId>,
    /// The serial number.
    pub serial: String,
    /// The model.
    pub model: String,
    /// What the device should be.
    pub spec: DeviceSpec,
    /// Whom to talk to, sealed; the same as in `spec`.
    pub contact: Option<Contact>,
    /// The columns that all objects share.
    #[serde(flatten)]
    pub life: Lifecycle,
}

impl Table for DeviceRow {
    type Key = ObjectKey;
    const NAME: &'static str = "devices";
    const KEY: &'static [&'static str] = &["customer", "id"];
    fn key(&self) -> ObjectKey {
        ObjectKey { customer: self.customer.clone(), id: self.id.to_string() }
    }
}

impl ObjectRow for DeviceRow {
    type Id = DeviceId;
    type Spec = DeviceSpec;
    const KIND: Kind = Kind::Device;

    fn created(
        customer: &CustomerId,
        id: &DeviceId,
        spec: &DeviceSpec,
        vendor: Option<VendorId>,
        life: Lifecycle,
    ) -> Self {
        Self {
            customer: customer.clone(),
            id: id.clone(),
            site: spec.site.clone(),
            vendor,
            serial: spec.serial.clone(),
            model: spec.model.clone(),
            spec: spec.clone(),
            contact: spec.contact.clone(),
            life,
        }
    }

    fn respecify(&mut self, spec: &DeviceSpec) {
        self.serial = spec.serial.clone();
        self.model = spec.model.clone();
        self.spec = spec.clone();
        self.contact.clone_from(&spec.contact);
    }

    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    fn life(&self) -> &Lifecycle {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Lifecycle {
        &mut self.life
    }
}
