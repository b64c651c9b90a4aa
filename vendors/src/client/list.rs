//! Lists, page by page.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;

use super::answer::Answer;
use super::error::ClientError;
use super::http::{Call, VendorHttp};
use super::{RemoteObject, ResourceClient};
use crate::pointer::text_at;
use crate::resource::{Count, CountOf, ListApi, Paging, Scope};

/// Most pages read of one list; a vendor whose cursor never ends is not followed for ever.
const MOST_PAGES: usize = 100_000;

/// Where the next page is.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    /// A cursor, a page's number or an offset.
    At(String),
    /// The parameters of a link.
    Link(Vec<(String, String)>),
}

/// A walk through a collection. A page that failed is asked for again by the next call.
#[derive(Debug)]
pub struct Pages {
    client: ResourceClient,
    name: Option<String>,
    /// Whether an item that cannot be read is passed over.
    lenient: bool,
    next: Option<Next>,
    /// The ids on the page before.
    before: Vec<String>,
    /// Items on all pages before.
    seen: usize,
    number: usize,
    over: bool,
}

impl Pages {
    /// The objects of the next page; none behind the last one.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Unexpected`] where the pages go round in a circle.
    pub async fn next(&mut self) -> Result<Option<Vec<RemoteObject>>, ClientError> {
        let api = Arc::clone(&self.client.api);
        let Some(list) = api.list.as_ref().filter(|_| !self.over) else { return Ok(None) };
        if self.number == MOST_PAGES {
            return Err(ClientError::unexpected(format!("the list has more than {MOST_PAGES} pages")));
        }
        let client = &self.client;
        let (path, answer) = client.page(list, self.name.as_deref(), self.next.as_ref()).await?;
        let body = answer.json()?;
        let items = items(list, &body)?;
        let seen = self.seen + items.len();
        let readable = items.iter().map(|item| client.item(list, item));
        let readable = readable.filter(|object| !self.lenient || object.is_ok());
        let objects = readable.collect::<Result<Vec<_>, _>>()?;
        let after = match &list.paging {
            Paging::Cursor { next, more } => cursor(next.as_deref(), more.as_deref(), &body)?,
            Paging::Count(count) => counted(count, self.number + 1, items.len(), seen, &body),
            Paging::Link => {
                match answer.headers("link").find_map(|header| next_link(&header).map(str::to_owned)) {
                    Some(link) => Some(Next::Link(client.http.parameters(&path, &link)?)),
                    None => None,
                }
            }
        };
        let ids: Vec<String> = objects.iter().map(|object| object.id.clone()).collect();
        let same = !ids.is_empty() && ids == self.before;
        if after.is_some() && (self.next == after || same) {
            return Err(ClientError::unexpected("the list's next page is the page itself"));
        }
        self.number += 1;
        (self.over, self.seen, self.before, self.next) = (after.is_none(), seen, ids, after);
        Ok(Some(objects))
    }

    /// Asks for the pages from now on through these connections.
    pub fn through(&mut self, http: VendorHttp) {
        self.client.http = http;
    }
}

impl ResourceClient {
    /// The object whose attribute `name` is `name`.
    ///
    /// # Errors
    /// [`ClientError`]; several objects of that name are [`ClientError::Unexpected`].
    pub async fn find_by_name(&self, name: &str) -> Result<Option<RemoteObject>, ClientError> {
        let mut found: Vec<RemoteObject> = Vec::new();
        // A vendor that does not know the query parameter answers everything, so the name is compared here too.
        self.each_page(Some(name), |objects| {
            let named =
                |object: &RemoteObject| object.attributes.get("name").and_then(Value::as_str) == Some(name);
            found.extend(objects.into_iter().filter(named));
            if found.len() > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await?;
        if found.len() > 1 {
            return Err(ClientError::unexpected(format!("more than one object is named `{name}`")));
        }
        let Some(found) = found.pop() else { return Ok(None) };
        match &self.api.list {
            Some(list) if list.partial => self.read(&found.id).await,
            _ => Ok(Some(found)),
        }
    }

    /// Hands every object of the collection over, page by page, until the last page or until `page` breaks.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Unexpected`] if the resource has no list.
    pub async fn list(
        &self,
        page: impl FnMut(Vec<RemoteObject>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        self.each_page(None, page).await
    }

    /// The collection page by page, for who does something between two pages. An item that cannot be read, because an
    /// attribute is of another type or its id is missing, is passed over: it says nothing about the others.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] if the resource has no list.
    pub fn pages(&self) -> Result<Pages, ClientError> {
        Ok(Pages { lenient: true, ..self.pages_of(None)? })
    }

    fn pages_of(&self, name: Option<&str>) -> Result<Pages, ClientError> {
        let Some(list) = &self.api.list else {
            let message = format!("the vendor folder has no [list] for {}", self.api.kind);
            return Err(ClientError::unexpected(message));
        };
        let (client, name, next) = (self.clone(), name.map(str::to_owned), first(list));
        Ok(Pages { client, name, next, lenient: false, before: Vec::new(), seen: 0, number: 0, over: false })
    }

    async fn each_page(
        &self,
        name: Option<&str>,
        mut page: impl FnMut(Vec<RemoteObject>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let mut pages = self.pages_of(name)?;
        while let Some(objects) = pages.next().await? {
            if page(objects).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One page, and the path it was asked for at.
    async fn page(
        &self,
        list: &ListApi,
        name: Option<&str>,
        next: Option<&Next>,
    ) -> Result<(String, Answer), ClientError> {
        let mut scope = Scope::new();
        if let Some(name) = name {
            scope.insert("name".to_owned(), name.into());
        }
        if let Paging::Count(count) = &list.paging {
            scope.insert("size".to_owned(), count.size.into());
        }
        if let Some(Next::At(at)) = next {
            scope.insert("cursor".to_owned(), cursor_value(list, at));
        }
        let mut call = Call { looks: true, ..self.prepared(&list.operation, &scope)? };
        match next {
            // A link has all parameters of its page.
            Some(Next::Link(parameters)) => call.query.clone_from(parameters),
            _ => {
                let named = list.name.as_deref().zip(name);
                call.query.extend(named.map(|(parameter, name)| (parameter.to_owned(), name.to_owned())));
                if let (Some(parameter), Some(Next::At(at))) = (&list.cursor, next) {
                    call.query.push((parameter.clone(), at.clone()));
                }
                if let Paging::Count(Count { size, size_parameter: Some(parameter), .. }) = &list.paging {
                    call.query.push((parameter.clone(), size.to_string()));
                }
            }
        }
        let answer = self.http.call(&self.api, &call).await?;
        Ok((call.path, answer))
    }

    fn item(&self, list: &ListApi, item: &Value) -> Result<RemoteObject, ClientError> {
        match &list.operation.object {
            None => self.object(item),
            Some(pointer) => match item.pointer(pointer) {
                Some(object) => self.object(object),
                None => {
                    Err(ClientError::unexpected(format!("an item of the list has no object at {pointer}")))
                }
            },
        }
    }
}

fn items<'a>(list: &ListApi, body: &'a Value) -> Result<&'a Vec<Value>, ClientError> {
    match body.pointer(&list.items) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(ClientError::unexpected(format!("the list has no array at {}", list.items))),
    }
}

/// The first page's number or offset; a cursor has no first one.
fn first(list: &ListApi) -> Option<Next> {
    match &list.paging {
        Paging::Count(count) => Some(Next::At(count.first.to_string())),
        Paging::Cursor { .. } | Paging::Link => None,
    }
}

/// Numbers stay numbers where a cursor goes into JSON.
fn cursor_value(list: &ListApi, at: &str) -> Value {
    match (&list.paging, at.parse::<u64>()) {
        (Paging::Count(_), Ok(number)) => number.into(),
        _ => at.into(),
    }
}

fn cursor(next: Option<&str>, more: Option<&str>, body: &Value) -> Result<Option<Next>, ClientError> {
    if let Some(more) = more
        && body.pointer(more) != Some(&Value::Bool(true))
    {
        return Ok(None);
    }
    let Some(pointer) = next else { return Ok(None) };
    match body.pointer(pointer) {
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(ClientError::unexpected("the list's cursor is neither text nor a number"))
        }
        _ => Ok(text_at(body, pointer).map(Next::At)),
    }
}

fn counted(count: &Count, pages: usize, on_page: usize, seen: usize, body: &Value) -> Option<Next> {
    let total = count.total.as_deref().and_then(|at| text_at(body, at)?.parse::<u64>().ok());
    let whole = match total {
        Some(total) => seen as u64 >= total || on_page == 0,
        None => (on_page as u64) < count.size,
    };
    let pages = pages as u64;
    let at = count.first + if count.of == CountOf::Number { pages } else { pages * count.size };
    (!whole).then(|| Next::At(at.to_string()))
}

/// The target of `rel="next"` in a `Link` header.
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some(begin) = rest.find('<') {
        let (target, after) = rest[begin + 1..].split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel") && relations.any(|word| word.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::next_link;

    #[test]
    fn the_next_page_is_found_however_it_is_written() {
        for said in
            ["rel=next", "rel=\"prev Next\"", "title=x; REL = \"next\"", "title=\"n\u{fffd}chste\";rel=next"]
        {
            let header = format!("<https://docs.example/>; rel=help, </v1/sites?page=2>; {said}");
            assert_eq!(next_link(&header), Some("/v1/sites?page=2"), "{said}");
        }
        assert_eq!(next_link("</v1/sites?page=1>; rel=prev, </v1/next>; title=next"), None);
    }
}
