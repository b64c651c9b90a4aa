//! `[list]`: how a collection is listed, page by page.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::operation::{Body, Operation, Role, Shared};
use crate::error::LoadError;
use crate::pointer;
use crate::section::Section;

/// How a collection is listed, page by page.
#[derive(Clone, Debug, PartialEq)]
pub struct ListApi {
    /// The call for one page.
    pub operation: Operation,
    /// JSON pointer to the array of items.
    pub items: String,
    /// How the next page is asked for.
    pub paging: Paging,
    /// Query parameter that carries the cursor, the page's number or the offset.
    pub cursor: Option<String>,
    /// Query parameter that finds an object by its `name` attribute, if the vendor has one.
    pub name: Option<String>,
    /// Whether an item lacks attributes, so that an object has to be read to be compared.
    pub partial: bool,
    /// How old a whole list may be that answers whether an object is as it should be; `None` if objects are read one by one.
    pub fresh: Option<Duration>,
}

/// How the next page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paging {
    /// By a cursor from the page before.
    Cursor {
        /// JSON pointer to it; `None` if a list answer is always whole.
        next: Option<String>,
        /// JSON pointer to whether there is a next page, where the vendor says so.
        more: Option<String>,
    },
    /// By a count: pages, or objects before the page.
    Count(Count),
    /// By the query of the `Link` header's `rel="next"`.
    Link,
}

/// Paging by a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Of what.
    pub of: CountOf,
    /// The first page's number or offset.
    pub first: u64,
    /// Objects in a full page.
    pub size: u64,
    /// Query parameter that carries the size.
    pub size_parameter: Option<String>,
    /// JSON pointer to the number of all objects; without it the first page that is not full is the last.
    pub total: Option<String>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CountOf {
    /// Pages.
    Number,
    /// Objects before the page.
    Offset,
}

impl ListApi {
    /// Whether a list can be asked for the objects of one name.
    #[must_use]
    pub fn filters_by_name(&self) -> bool {
        self.name.is_some() || self.operation.names("name")
    }

    /// Whether a page may show the collection as it was when the first one was asked for: a cursor or a link may stand
    /// for a copy that the vendor made then.
    #[must_use]
    pub fn may_be_copy(&self) -> bool {
        matches!(self.paging, Paging::Cursor { .. } | Paging::Link)
    }
}

impl Operation {
    /// Whether one of its templates has this place.
    #[must_use]
    pub fn names(&self, place: &str) -> bool {
        let in_query = self.query.iter().any(|(_, template)| template.places().any(|name| name == place));
        let in_body = match &self.body {
            Body::None => false,
            Body::Json(shape) | Body::GraphQl { variables: shape, .. } => shape.places().contains(&place),
        };
        in_query || in_body || self.path.places().any(|name| name == place)
    }
}

pub(super) fn load(shared: &Shared<'_>, mut section: Section) -> Result<ListApi, LoadError> {
    let operation = shared.operation(&mut section, Role::List)?;
    let items = pointer::reading(&mut section, "items")?
        .ok_or_else(|| section.error("items", "is missing: add it"))?;
    let paging = paging(&mut section)?;
    let fresh: Option<u64> = section.optional("fresh_seconds")?;
    let parameter: Option<String> = section.optional("cursor")?;
    // A template with the place says itself where the cursor goes.
    let usual = (!operation.names("cursor")).then(|| match &paging {
        Paging::Count(Count { of: CountOf::Number, .. }) => "page".to_owned(),
        Paging::Count(Count { of: CountOf::Offset, .. }) => "offset".to_owned(),
        Paging::Cursor { .. } | Paging::Link => "cursor".to_owned(),
    });
    let list = ListApi {
        items,
        cursor: parameter.or(usual),
        name: section.optional("name")?,
        partial: section.optional("partial")?.unwrap_or(false),
        fresh: fresh.map(Duration::from_secs),
        operation,
        paging,
    };
    if list.partial && list.fresh.is_some() {
        let message = "cannot be used: a partial list does not say whether an object is as it should be";
        return Err(section.error("fresh_seconds", message));
    }
    section.finish()?;
    Ok(list)
}

fn paging(section: &mut Section) -> Result<Paging, LoadError> {
    let kind: Option<String> = section.optional("paging")?;
    let of = match kind.as_deref() {
        None | Some("cursor") => return cursor(section),
        Some("link") => return Ok(Paging::Link),
        Some("number") => CountOf::Number,
        Some("offset") => CountOf::Offset,
        Some(_) => return Err(section.error("paging", "is \"cursor\", \"number\", \"offset\" or \"link\"")),
    };
    let size: u64 = section.required("size")?;
    if size == 0 {
        return Err(section.error("size", "is nothing: write how many objects a full page has"));
    }
    Ok(Paging::Count(Count {
        of,
        first: section.optional("first")?.unwrap_or(u64::from(of == CountOf::Number)),
        size,
        size_parameter: section.optional("size_parameter")?,
        total: pointer::reading(section, "total")?,
    }))
}

fn cursor(section: &mut Section) -> Result<Paging, LoadError> {
    let page_info = pointer::reading(section, "page_info")?;
    let next = pointer::reading(section, "next")?;
    let more = pointer::reading(section, "more")?;
    match page_info {
        None => Ok(Paging::Cursor { next, more }),
        Some(_) if next.is_some() || more.is_some() => {
            Err(section.error("page_info", "says where the cursor is: remove `next` and `more`"))
        }
        Some(at) => Ok(Paging::Cursor {
            next: Some(format!("{at}/endCursor")),
            more: Some(format!("{at}/hasNextPage")),
        }),
    }
}
