//! Lanes: a vendor with one account's credential and budget. The vendor's own is there from the beginning; those of
//! customers' accounts are opened when a run needs them, as the vendor's folder says then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use wanwright_commands::accounts;
use wanwright_nats::Budgets;
use wanwright_schemas::policy::Account;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::{CustomerId, VendorId};
use wanwright_vendors::{CredentialRef, Vendor, Vendors};

use super::GatewayError;
use super::admit::Admissions;
use super::budget::{Budget, Counter, MAIN_ACCOUNT, Place, Standing};
use super::credential::Credential;
use super::run::RunContext;
use super::secrets::Secrets;
use super::target::Base;
use super::wire::Wire;

/// How long a lane of a customer's account stays open that nobody uses.
const IDLE: Duration = Duration::from_secs(600);

/// A budget at a vendor: what penalties and breakers are about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    /// The vendor.
    pub vendor: VendorId,
    /// The budget's name.
    pub budget: String,
}

impl AccountKey {
    /// The budget that a customer's account names; the vendor's own without one.
    pub fn new(vendor: VendorId, account: Option<&Account>) -> Self {
        let budget = account.map_or(MAIN_ACCOUNT, |account| account.budget.as_str());
        Self { vendor, budget: budget.to_owned() }
    }
}

/// Why a run has no lane.
#[derive(Debug)]
pub enum NoLane {
    /// The customer may not use the account: for good, until somebody changes the account or the folder.
    Refused(Refusal),
    /// Something of ours is not there yet, such as the file with the credential.
    Away(Refusal),
}

impl NoLane {
    /// Why, and what to do.
    pub fn refusal(&self) -> &Refusal {
        let (Self::Refused(refusal) | Self::Away(refusal)) = self;
        refusal
    }
}

/// A vendor as the gateway reaches it with one account.
pub(super) struct Lane {
    pub(super) base: Base,
    pub(super) wire: Arc<Wire>,
    pub(super) credential: Credential,
    pub(super) counted: Arc<Counted>,
    /// Where answers have addresses of the vendor's, as JSON pointers.
    pub(super) addresses: Vec<String>,
    pub(super) secrets: Arc<Secrets>,
    reference: CredentialRef,
    used: Mutex<Instant>,
}

/// What accounts with one budget share.
pub(super) struct Counted {
    pub(super) budget: Budget,
    pub(super) admissions: Admissions,
    _stop: DropGuard,
}

impl std::ops::Deref for Lane {
    type Target = Counted;

    fn deref(&self) -> &Counted {
        &self.counted
    }
}

/// The lane's key: the vendor, and the account's name unless it is the vendor's own.
type LaneKey = (VendorId, Option<String>);

#[derive(Default)]
struct Open {
    ways: HashMap<VendorId, (Base, Arc<Wire>)>,
    lanes: HashMap<LaneKey, Arc<Lane>>,
    counted: HashMap<AccountKey, Arc<Counted>>,
    /// Where a vendor counts calls by their address, what all its accounts share.
    addresses: HashMap<VendorId, Arc<Counter>>,
    secrets: HashMap<VendorId, Arc<Secrets>>,
}

/// All lanes of this process.
pub(super) struct Lanes {
    vendors: Vendors,
    urls: HashMap<String, String>,
    process: String,
    budgets: Budgets,
    stop: CancellationToken,
    failed: CancellationToken,
    open: Mutex<Open>,
    /// How many budgets were opened so far.
    opened: watch::Sender<usize>,
}

impl Lanes {
    /// Opens the lane of every vendor's own account. A vendor that nobody has an account at is no reason to serve none of
    /// the others.
    pub(super) fn start(
        vendors: Vendors,
        urls: HashMap<String, String>,
        budgets: Budgets,
        stop: CancellationToken,
        failed: CancellationToken,
    ) -> Result<Self, GatewayError> {
        // Unique, so that a process that was started again is not taken for the one that died.
        let process = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let (open, opened) = (Mutex::default(), watch::Sender::new(0));
        let lanes = Self { vendors, urls, process, budgets, stop, failed, open, opened };
        for vendor in lanes.vendors.snapshot().iter() {
            let id: VendorId =
                vendor.name.parse().map_err(|error: wanwright_schemas::ids::InvalidToken| {
                    GatewayError::Vendor { vendor: vendor.name.clone(), what: error.to_string() }
                })?;
            match lanes.find(&id, vendor, None, &vendor.credential) {
                Err(error @ GatewayError::Credential { .. }) => {
                    tracing::warn!(%error, "the gateway makes no calls to this vendor yet");
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(lanes)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane of a run.
    pub(super) fn of(&self, run: &RunContext) -> Result<Arc<Lane>, NoLane> {
        self.lane(&run.vendor, &run.customer, run.account.as_ref())
    }

    fn lane(
        &self,
        id: &VendorId,
        customer: &CustomerId,
        account: Option<&Account>,
    ) -> Result<Arc<Lane>, NoLane> {
        let vendors = self.vendors.snapshot();
        let Some(vendor) = vendors.get(id.as_str()) else {
            let message = format!("there is no folder for vendor {id}");
            return Err(NoLane::Away(Refusal::new(Reason::UnknownVendor, message)));
        };
        let found = match account {
            None => self.find(id, vendor, None, &vendor.credential),
            Some(account) => {
                let there = accounts::judge(vendor, customer, account).map_err(NoLane::Refused)?;
                let reference = CredentialRef { source: there.source.clone(), ..vendor.credential.clone() };
                self.find(id, vendor, Some(account), &reference)
            }
        };
        found.map_err(|error| NoLane::Away(Refusal::new(Reason::CredentialMissing, error.to_string())))
    }

    /// The open lane of an account, or a new one. One is opened anew whose folder says something else by now of where its
    /// credential and secrets are or how the vendor is reached.
    fn find(
        &self,
        id: &VendorId,
        vendor: &Vendor,
        account: Option<&Account>,
        reference: &CredentialRef,
    ) -> Result<Arc<Lane>, GatewayError> {
        let key = (id.clone(), account.map(|account| account.credential.as_str().to_owned()));
        let mut open = self.lock();
        if let Some(lane) = open.lanes.get(&key).filter(|lane| {
            lane.reference == *reference
                && lane.wire.is_current(&vendor.connection)
                && lane.addresses == vendor.addresses
                && lane.secrets.is_of(vendor.secrets.as_ref())
        }) {
            *lane.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return Ok(Arc::clone(lane));
        }
        let credential = Credential::read(&vendor.name, reference)?;
        let (base, wire) = match open.ways.get(id).filter(|(_, wire)| wire.is_current(&vendor.connection)) {
            Some((base, wire)) => (base.clone(), Arc::clone(wire)),
            None => {
                let way = self.way(vendor)?;
                open.ways.insert(id.clone(), way.clone());
                way
            }
        };
        let lane = Arc::new(Lane {
            base,
            wire,
            credential,
            counted: self.counted(&mut open, AccountKey::new(id.clone(), account), vendor),
            addresses: vendor.addresses.clone(),
            secrets: self.secrets(&mut open, id, vendor),
            reference: reference.clone(),
            used: Mutex::new(Instant::now()),
        });
        open.lanes.insert(key, Arc::clone(&lane));
        Self::close_idle(&mut open);
        Ok(lane)
    }

    fn way(&self, vendor: &Vendor) -> Result<(Base, Arc<Wire>), GatewayError> {
        let url = self.urls.get(&vendor.name).unwrap_or(&vendor.base_url);
        let wrong = |what| GatewayError::Vendor { vendor: vendor.name.clone(), what };
        let base = Base::new(url).map_err(wrong)?;
        Ok((base, Arc::new(Wire::new(url, &vendor.connection).map_err(wrong)?)))
    }

    /// The vendor's secrets. Where the folder says another place by now, that counts for lanes that are opened from now on.
    fn secrets(&self, open: &mut Open, id: &VendorId, vendor: &Vendor) -> Arc<Secrets> {
        match open.secrets.get(id) {
            Some(secrets) if secrets.is_of(vendor.secrets.as_ref()) => Arc::clone(secrets),
            _ => {
                let secrets = Arc::new(Secrets::new(vendor.secrets.clone()));
                open.secrets.insert(id.clone(), Arc::clone(&secrets));
                secrets
            }
        }
    }

    fn counted(&self, open: &mut Open, key: AccountKey, vendor: &Vendor) -> Arc<Counted> {
        if let Some(counted) = open.counted.get(&key) {
            return Arc::clone(counted);
        }
        let address = vendor.budget.counts_by_address().then(|| self.address(open, &key.vendor, vendor));
        let stop = self.stop.child_token();
        let budget = Budget::start(&self.place(vendor, &stop), &key.budget, address);
        let admissions = Admissions::start(budget.standing(), budget.limits(), &stop, &self.failed);
        let counted = Arc::new(Counted { budget, admissions, _stop: stop.drop_guard() });
        open.counted.insert(key, Arc::clone(&counted));
        self.opened.send_modify(|opened| *opened += 1);
        counted
    }

    /// What all accounts at a vendor share that counts calls by their address.
    fn address(&self, open: &mut Open, id: &VendorId, vendor: &Vendor) -> Arc<Counter> {
        let start = || Arc::new(self.place(vendor, &self.stop).address());
        Arc::clone(open.addresses.entry(id.clone()).or_insert_with(start))
    }

    fn place<'a>(&'a self, vendor: &'a Vendor, stop: &'a CancellationToken) -> Place<'a> {
        Place { vendor, process: &self.process, budgets: &self.budgets, stop, failed: &self.failed }
    }

    /// Closes lanes of customers' accounts that nobody has used for long: each one watches its budget's record.
    fn close_idle(open: &mut Open) {
        open.lanes.retain(|(_, account), lane| {
            let used = *lane.used.lock().unwrap_or_else(PoisonError::into_inner);
            account.is_none() || Arc::strong_count(lane) > 1 || used.elapsed() < IDLE
        });
        let is_main = |key: &AccountKey| key.budget == MAIN_ACCOUNT;
        open.counted.retain(|key, counted| is_main(key) || Arc::strong_count(counted) > 1);
    }

    /// The budget of a vendor's own account.
    pub(super) fn main(&self, vendor: &VendorId) -> Option<Arc<Counted>> {
        self.lock().counted.get(&AccountKey::new(vendor.clone(), None)).map(Arc::clone)
    }

    /// Every open budget with how it stands.
    pub(super) fn standings(&self) -> Vec<(AccountKey, watch::Receiver<Standing>)> {
        let open = self.lock();
        open.counted.iter().map(|(key, counted)| (key.clone(), counted.budget.standing())).collect()
    }

    /// Changes when a budget is opened.
    pub(super) fn opened(&self) -> watch::Receiver<usize> {
        self.opened.subscribe()
    }
}
