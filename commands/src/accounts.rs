//! Whether a customer may use an account at a vendor: asked when it is named, and again when an order is carried out,
//! because the vendor's folder may be another one by then.

use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::policy::Account;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_vendors::{AccountRef, AccountRefused, Vendor};

/// The account as the vendor's folder has it.
///
/// # Errors
/// `UnknownAccount`, with the field of the account that is wrong. Whether another customer has such an account is not told.
pub fn judge<'a>(
    vendor: &'a Vendor,
    customer: &CustomerId,
    account: &Account,
) -> Result<&'a AccountRef, Refusal> {
    let (credential, budget) = (account.credential.as_str(), account.budget.as_str());
    vendor.account(customer.as_str(), credential, budget).map_err(|refused| match refused {
        AccountRefused::Unknown { known } => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!(
                "vendor {} has no account `{credential}` for {customer}; it has {known}",
                vendor.name
            );
            Refusal::new(Reason::UnknownAccount, message).field("credential")
        }
        AccountRefused::OtherBudget { budget: right } => {
            let message = format!(
                "calls of the account `{credential}` of vendor {} are counted against the budget `{right}`, not `{budget}`",
                vendor.name
            );
            Refusal::new(Reason::UnknownAccount, message).field("budget")
        }
    })
}
