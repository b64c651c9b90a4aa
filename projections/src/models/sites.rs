//! `sites`: one row per site.

use serde::{Deserialize, Serialize};
use wanwright_schemas::spec::SiteSpec;
use wanwright_schemas::template::{FIRST_VERSION, Templates};
use wanwright_schemas::{Change, Contact, CustomerId, Kind, SiteId, VendorId};

use super::lifecycle::Lifecycle;
use super::object::{ObjectKey, ObjectRow};
use crate::table::Table;

/// A row of `sites`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteRow {
    /// The customer.
    pub customer: CustomerId,
    /// The site.
    pub id: SiteId,
    /// Whose equipment the site has.
    pub vendor: VendorId,
    /// The networks at the site.
    pub lan: Vec<String>,
    /// What the site should be.
    pub spec: SiteSpec,
    /// Whom to talk to, sealed; the same as in `spec`.
    pub contact: Option<Contact>,
    /// The version of its vendor's template that its stack is to have.
    pub template: u32,
    /// The versions it was given, as far as they matter still.
    pub templates: Templates,
    /// The columns that all objects share.
    #[serde(flatten)]
    pub life: Lifecycle,
}

impl Table for SiteRow {
    type Key = ObjectKey;
    const NAME: &'static str = "sites";
    const KEY: &'static [&'static str] = &["customer", "id"];
    fn key(&self) -> ObjectKey {
        ObjectKey { customer: self.customer.clone(), id: self.id.to_string() }
    }
}

impl ObjectRow for SiteRow {
    type Id = SiteId;
    type Spec = SiteSpec;
    const KIND: Kind = Kind::Site;

    fn created(
        customer: &CustomerId,
        id: &SiteId,
        spec: &SiteSpec,
        _: Option<VendorId>,
        life: Lifecycle,
    ) -> Self {
        Self {
            customer: customer.clone(),
            id: id.clone(),
            vendor: spec.vendor.clone(),
            lan: networks(spec),
            spec: spec.clone(),
            contact: spec.contact.clone(),
            template: FIRST_VERSION,
            templates: Templates::default(),
            life,
        }
    }

    fn respecify(&mut self, spec: &SiteSpec) {
        self.vendor = spec.vendor.clone();
        self.lan = networks(spec);
        self.spec = spec.clone();
        self.contact.clone_from(&spec.contact);
    }

    fn retemplate(&mut self, change: &Change<SiteSpec>) {
        match change {
            Change::TemplateAssigned { generation, template, rollout, .. } => {
                self.templates.assign(*generation, template.clone(), *rollout);
            }
            Change::Applied { generation, .. } => self.templates.applied(*generation),
            Change::Cancelled { generation, restored: Some(_), tried } => {
                match (self.life.state.observed_generation, tried) {
                    (Some(applied), true) => self.templates.bring_back(*generation, applied),
                    (Some(applied), false) => self.templates.restored(applied),
                    (None, _) => {}
                }
            }
            _ => return,
        }
        self.template = self.templates.version_at(u64::MAX);
    }

    fn spec(&self) -> &SiteSpec {
        &self.spec
    }

    fn life(&self) -> &Lifecycle {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Lifecycle {
        &mut self.life
    }
}

fn networks(spec: &SiteSpec) -> Vec<String> {
    spec.lan.iter().map(ToString::to_string).collect()
}
