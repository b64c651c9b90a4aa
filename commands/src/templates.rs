//! Which version of its vendor's template a stack has.
//!
//! A stack that was never given one has the first. Another one is another generation, with the specification as it is: so
//! approvals, windows, freezes, failures and `cancel` are what they are for any change.

use wanwright_schemas::event::Change;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::spec::SiteSpec;
use wanwright_schemas::template::{AssignTemplateBody, FIRST_VERSION, Template};
use wanwright_vendors::{TerraformTemplate, Vendor};

use crate::decide::{self, Circumstances, live};
use crate::object::Object;

fn named(template: &TerraformTemplate) -> Template {
    Template { version: template.version, digest: template.digest.clone() }
}

/// The version of the template of this number.
///
/// # Errors
/// The refusal, when the vendor's folder has none.
pub fn of_vendor(vendor: &Vendor, version: u32) -> Result<Template, Refusal> {
    vendor.template(version).map(named).ok_or_else(|| {
        let known: Vec<String> = vendor.templates().map(|template| template.version.to_string()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message =
            format!("{} has no version {version} of its template; there are: {known}", vendor.title);
        Refusal::new(Reason::UnknownTemplate, message)
    })
}

/// The template of a stack, as the vendor's folder has it now: the version that its generation was given, unless that one is
/// gone or has another content; the first for a stack that was never given one.
pub(crate) fn of_stack<'a>(vendor: &'a Vendor, site: &Object<SiteSpec>) -> Option<&'a TerraformTemplate> {
    match site.templates.at(site.generation) {
        None => vendor.terraform.as_ref(),
        Some(given) => vendor.template(given.version).filter(|template| template.digest == given.digest),
    }
}

/// The version that a new stack begins with, unless that is the first.
pub(crate) fn of_new(vendor: &Vendor) -> Option<Change<SiteSpec>> {
    let template =
        vendor.template(vendor.default_template).filter(|template| template.version != FIRST_VERSION)?;
    let template = named(template);
    Some(Change::TemplateAssigned { generation: 1, template, rollout: None, assigned_by: None })
}

/// Gives a stack another version. A stack listens to each rollout once: what was taken back since stays as it is. One that
/// has another version than the rollout is about is left alone.
pub(crate) fn assign(
    site: Option<&Object<SiteSpec>>,
    name: &str,
    body: &AssignTemplateBody,
    facts: Circumstances<'_>,
) -> Result<Vec<Change<SiteSpec>>, Refusal> {
    let site = live(site, name)?;
    let vendor = decide::vendor(facts, &site.spec.vendor)?;
    let template = of_vendor(vendor, body.version).map_err(|refusal| refusal.field("version"))?;
    let has = site.templates.version_at(site.generation);
    if body.rollout <= site.templates.rollout() || has != body.from || has == body.version {
        return Ok(Vec::new());
    }
    // What was planned, and given to the others, is what is given here.
    if template.digest != body.digest {
        let message = format!(
            "version {} of the template has the digest {} here, and {} was to be given",
            body.version, template.digest, body.digest
        );
        return Err(Refusal::new(Reason::TemplateChanged, message).field("digest"));
    }
    let (rollout, assigned_by) = (Some(body.rollout), Some(body.by.clone()));
    Ok(vec![Change::TemplateAssigned { generation: site.generation + 1, template, rollout, assigned_by }])
}
