//! The reason catalogue: every refusal and every failure wanwright states, once, for all doors.

use serde::{Deserialize, Serialize};

macro_rules! catalogue {
    ($($name:ident = $number:literal, $status:literal, $sentence:literal, $next:literal;)*) => {
        /// Why something was refused or failed. Names and numbers are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
        pub enum Reason {
            $(#[doc = $sentence] $name,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)* }
            }

            /// The stable number, for programs that want one.
            pub fn number(self) -> u16 {
                match self { $(Reason::$name => $number,)* }
            }

            /// The HTTP status that fits.
            pub fn status(self) -> u16 {
                match self { $(Reason::$name => $status,)* }
            }

            /// What the reason means, in a sentence.
            pub fn sentence(self) -> &'static str {
                match self { $(Reason::$name => $sentence,)* }
            }

            /// What to do next.
            pub fn next(self) -> &'static str {
                match self { $(Reason::$name => $next,)* }
            }
        }
    };
}

catalogue! {
    BadSubject = 1001, 400, "The subject is not one that commands travel on.",
        "Publish on wan.do.<customer>.<actor>.<kind>.<id>.<verb>; every token is a-z, 0-9 and -, at most 63 characters.";
    UnknownKind = 1002, 400, "There is no such kind of object.", "Use customer, site, tunnel or device.";
    UnknownVerb = 1003, 400, "This kind of object has no such verb.", "Use one of the verbs the message names.";
    BadHeader = 1004, 400, "A header of the command cannot be read.", "Correct the header the message names.";
    BrokenJson = 1005, 400, "The body is not JSON.", "Correct the body at the place the message names.";
    UnknownField = 1006, 400, "The body has a field that does not exist.", "Remove the field or correct its name.";
    MissingField = 1007, 400, "The body lacks a field that is required.", "Add the field.";
    WrongType = 1008, 400, "A field has the wrong type.", "Correct the field's value.";
    InvalidValue = 1009, 422, "A field has a value that is not allowed.", "Correct the field's value.";
    BodyTooLarge = 1010, 413, "The body is larger than 1 MB.", "Send a smaller body.";
    CommandTooOld = 1011, 409, "The command's id is older than the window in which ids are remembered.",
        "Look whether the command was carried out; if not, send it under a new id.";
    CommandFromFuture = 1012, 400, "The command's id was minted at a time that has not come yet.",
        "Correct the sender's clock and mint a new id.";
    CommandIdReused = 1013, 409, "The command's id was used before, with another subject or body.",
        "Mint a new id for a new command.";
    NotAllowed = 1014, 403, "The actor may not send this command.", "Ask somebody who has the right.";

    AlreadyExists = 2001, 409, "There is an object of that name already.", "Change it, or choose another name.";
    NotFound = 2002, 404, "There is no such object.", "Look at what there is with `wanwright get`.";
    BeingRemoved = 2003, 409, "The object is being decommissioned.", "Wait until it is gone, then create it again.";
    GenerationMismatch = 2004, 409, "The object has another generation than the command expects.",
        "Read the object again and decide anew.";
    UnknownVendor = 2005, 422, "There is no folder for this vendor.", "Use one of the vendors the message names.";
    UnknownModel = 2006, 422, "The vendor has no such device model.", "Use one of the models the message names.";
    UnknownHub = 2007, 422, "The vendor has no such hub.", "Use one of the hubs the message names.";
    SiteMissing = 2008, 422, "The site does not exist or is being decommissioned.", "Create the site first.";
    SiteInUse = 2009, 409, "The site still has tunnels or devices.",
        "Decommission what the message names first, or send the command with {\"cascade\":true} to take it down too.";
    TunnelLimitReached = 2010, 422, "The site has as many tunnels as its vendor allows.",
        "Decommission a tunnel of the site first.";
    PrefixOverlap = 2011, 422, "A prefix overlaps another one of the same customer.", "Choose a free prefix.";
    SerialTaken = 2012, 409, "The serial number belongs to another device.", "Check the serial number.";
    CannotChange = 2013, 422, "The field cannot be changed while the object exists.",
        "Decommission the object and create it anew.";
    NothingToRetry = 2014, 409, "The object has neither failed nor drifted.", "Nothing needs to be done.";
    NothingToCheck = 2015, 409, "The object is not at the vendor yet, so it cannot have drifted.",
        "Wait until it is provisioned.";
    Protected = 2016, 409, "The object, or one that would go with it, is protected from being taken down.",
        "Send `unprotect` to what the message names, then send the command again.";
    Frozen = 2017, 409, "A change freeze of the customer is in force.",
        "Wait for its end, or send `unfreeze` for the customer with the name of the freeze.";
    CustomerInUse = 2018, 409, "The customer still has sites, tunnels or devices.",
        "Decommission them first, or send the command with {\"cascade\":true} to take everything down.";
    Suspended = 2019, 409, "The object, its site or its customer is suspended, so nothing is looked at.",
        "Send `resume` to what the message names.";
    NothingToApprove = 2020, 409, "No generation of the object waits for approval.", "Nothing needs to be done.";
    OwnChange = 2021, 403, "Who asked for a change cannot approve it.", "Ask somebody else to approve it.";
    TooMany = 2022, 422, "The customer has as many of these as it may have.",
        "Take away one that the message names, or that is not needed any more.";
    NotApprover = 2023, 403, "The rule wants approvals of a group that the actor does not belong to.",
        "Ask somebody of the group that the message names.";
    ApprovalsInForce = 2024, 409, "The customer's policy asks for approvals, and would be forgotten without one.",
        "Change the policy to `apply` first, which others have to approve; then send the command again.";
    NothingToRelease = 2025, 409, "Nothing about the object waits for a change window.", "Nothing needs to be done.";
    NothingToAcknowledge = 2026, 409, "The object has neither failed nor drifted.", "Nothing needs to be done.";
    UnknownGeneration = 2027, 422, "The object never had a specification in this generation.",
        "Look up its generations in `timeline`, and name one of them.";
    PresentGeneration = 2028, 409, "The object has this generation now.", "Name an earlier one, or do nothing.";
    FormerObject = 2029, 409, "The generation was one of an object that had this name before, and is gone.",
        "Name a generation of the present object, or send a `change` with what it should be.";

    NothingToCancel = 2030, 409, "Nothing about the object waits to be carried out.",
        "Send `revert` to go back to an earlier generation, or `retry` where a change has failed.";
    OrderRunning = 2031, 409, "An executor has taken the change up, so it cannot be cancelled any more.",
        "Wait for its end (`wanwright get operations`), then send `revert` or another `change`.";
    Overtaken = 2032, 409, "A later command about the same object has been accepted, and this one would come behind it.",
        "Look at the object, and send what it lacks as a new command; or send the letter back all the same with `--anyway`.";

    UnknownAccount = 2040, 422, "The vendor's folder has no such account for the customer.",
        "Name an account that the message lists, have an operator add it to the vendor's folder, or take the account out of the customer's settings; if an object has failed, then send `retry`.";

    PlanMismatch = 2050, 409, "The stack has another plan than the command names, or the command names none.",
        "Look at the present one with `wanwright plan show`, and name its generation and its hash.";
    PlanExpired = 2051, 409, "The plan's time is over; the stack is planned anew.",
        "Look at the new plan with `wanwright plan show`, and approve that one.";
    PlanStale = 2052, 409, "The plan was made for something that has changed since; the stack is planned anew.",
        "Look at the new plan with `wanwright plan show`, and approve that one.";
    NotPlannable = 2053, 422, "This cannot be planned, for Terraform does not bring it about.",
        "Use `approve` for what Terraform does not bring about, and `plan` for sites of vendors with a template.";
    UnknownTemplate = 2060, 422, "The vendor's folder has no such version of the template.",
        "Use one of the versions the message names, or put the folder of the new one beside them.";
    RolloutUnderWay = 2061, 409, "A rollout of the vendor's template is under way.",
        "Look with `wanwright rollout status`; wait for its end, or send `stop`.";
    NoSuchRollout = 2062, 409, "The vendor has no rollout to which this can be done.",
        "Look with `wanwright rollout status` how it is.";

    VendorRefused = 3001, 502, "The vendor refused the change.",
        "Correct what the vendor names, or send `retry` when the vendor is right again.";
    VendorBusy = 3002, 503, "The vendor had no capacity for the change, many times in a row.", "Send `retry` later.";
    Network = 3003, 504, "The vendor could not be reached.", "Check the way to the vendor, then send `retry`.";
    Internal = 3004, 500, "wanwright failed while it carried out the change.", "Look at the run's log, then send `retry`.";
    RunDied = 3005, 500, "The run of the change ended its executor, again and again.",
        "Look at the letter with `wanwright dead list` and at the executors' logs, then send `retry`.";
    OrderUnreadable = 3006, 500, "A row of the table of orders cannot be read.",
        "Upgrade the executors if the row is newer than they are, then send the letter back with `wanwright dead requeue`.";
    OutcomeUnknown = 3007, 500, "Whether the vendor made the object is not known, and it offers no way to find out.",
        "Look at the vendor: delete what it made, or take the object away here, then send `retry`.";
    CredentialMissing = 3020, 500, "The credential of an account at the vendor cannot be read.",
        "Put the file or variable that the message names in place; what waits for it goes on by itself.";
    SecretMissing = 3021, 422, "A secret that the object's settings name is not there.",
        "Have an operator put the file that the message names in place, or correct the settings; then send `retry`.";

    TemplateChanged = 3030, 500, "The version of the vendor's template is not there as the stack was given it.",
        "Put its folder back as it was, and the new content beside it as the next version; what waits goes on by itself.";

    HistoryDamaged = 4001, 500, "The customer's history does not fit its hash chain; nothing was decided.",
        "Restore the stream; see ARCHITECTURE.md, \"A hole is never read over\".";
    Unavailable = 4002, 503, "The command could not be recorded for sure now.",
        "Send it again under the same id: it is carried out once.";
    ContactNotKept = 4004, 503, "This installation has no master key, so personal data cannot be sealed and is not taken.",
        "Give the command service a master key with WANWRIGHT_MASTER_KEY_FILE, or send the command without `contact`.";
    KeyUnreadable = 4005, 500, "The key of the customer's personal data cannot be opened, so nothing can be sealed with it.",
        "Put the stream KEYS and the master key back as they were; where that cannot be, send `erase` for the customer. Then send the command again. What has no `contact` is taken all the time.";
    TooManyWaiting = 4006, 429, "The customer has as many durable commands in the inbox as it may have; this one was not stored.",
        "Wait until some of them are decided, then send the command again under the same id.";

    PreviewUnavailable = 4030, 503, "No executor could say what Terraform would do.",
        "Send the dry run again when executors run, or without a plan.";
    Paused = 4031, 503, "What is done at the vendor or for the customer is paused, so the vendor was not asked.",
        "Wait for the end of the pause, or have an operator end it with `wanwright resume`; then ask again.";

    StorageDamaged = 4010, 500, "A stream lacks what it had stored.",
        "Restore the stream the message names, or send again what it lost; see ARCHITECTURE.md, \"What is missing is missed\".";

    StateDamaged = 4020, 500, "The stack's Terraform state is not what was stored; nothing is applied on it.",
        "Look with `wanwright state history`, then put the good copy in its place with `wanwright state restore`.";
    StateUnsealed = 4021, 409, "A version of a state is not sealed, so everybody could read it in a backup.",
        "Run `wanwright state seal`, then back up again.";
    BackupFolderNotEmpty = 4022, 409, "The folder that a backup should go into has something else in it.",
        "Name a folder that is empty or not there yet.";
    BackupUnderWay = 4023, 409, "Another backup is being written into the folder.",
        "Wait for its end, or name another folder.";
    BackupMissing = 4024, 404, "There is no backup in the folder, or one that was not finished.",
        "Name the folder of another one.";
    BackupDamaged = 4025, 500, "The backup is not what was written; nothing was restored.", "Use another backup.";
    BackupLater = 4026, 422, "The backup was written by a later wanwright; nothing was restored.",
        "Restore it with that one.";
    StateOlder = 4027, 409, "The stores have an older Terraform state of the stack than its history tells of; nothing is run with it.",
        "Bring the newer one back from a backup with `wanwright state restore --from`, or go on from the one that is there, by \
         its serial, with `wanwright state accept`.";

    RuleBroken = 2101, 422, "The settings break a rule of the vendor.", "Correct the field as the rule says.";
    UnknownSchemaVersion = 2102, 422, "The vendor does not serve this version of its settings.",
        "Use one of the versions the message names; `wanwright explain` lists them.";
    NotConvertible = 2103, 422, "The settings cannot be said in the version in which they are stored.",
        "Correct the field, or send the settings in the stored version.";
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

/// A refusal: an answer, not an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The stable code.
    pub code: Reason,
    /// What is wrong with this command, in a sentence that names names.
    pub message: String,
    /// The field of the body that is wrong, as a dotted path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do next.
    pub next: String,
}

impl Refusal {
    /// A refusal for this reason, with the catalogue's advice.
    pub fn new(code: Reason, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, next: code.next().to_owned() }
    }

    /// The same, naming the field.
    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The same, with better advice than the catalogue's.
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_unique_and_every_reason_says_what_to_do() {
        let numbers: BTreeSet<u16> = Reason::ALL.iter().map(|reason| reason.number()).collect();
        assert_eq!(numbers.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.sentence().ends_with('.'), "{reason}");
            assert!(reason.next().len() > 5, "{reason}");
        }
    }
}
