//! What a template may not have: whatever reaches beyond the vendor's resources.
//!
//! A run is confined as well; this is said before anything runs, with the line where it stands. Values reach a template as
//! variables, so it has no reason to read files, start programs or fetch code.

use std::collections::BTreeMap;

use hcl_edit::Span;
use hcl_edit::expr::{Expression, FuncCall};
use hcl_edit::structure::{Attribute, Block, Body};
use hcl_edit::template::ForTemplateExpr;
use hcl_edit::visit::{Visit, visit_block, visit_for_template_expr, visit_func_call};

use crate::providers::is_ours;

/// Blocks that a template may have at its top.
const BLOCKS: [&str; 11] = [
    "terraform",
    "provider",
    "variable",
    "locals",
    "resource",
    "data",
    "output",
    "check",
    "moved",
    "import",
    "removed",
];

/// What may be in `terraform { … }`.
const SETTINGS: [&str; 3] = ["required_version", "required_providers", "backend"];

/// Providers whose business is the machine they run on, or code from elsewhere.
const REFUSED_PROVIDERS: [&str; 9] =
    ["external", "local", "null", "http", "archive", "template", "terracurl", "shell", "remote"];

/// Functions that read files of the machine.
const FILE_FUNCTIONS: [&str; 14] = [
    "abspath",
    "file",
    "filebase64",
    "filebase64sha256",
    "filebase64sha512",
    "fileexists",
    "filemd5",
    "fileset",
    "filesha1",
    "filesha256",
    "filesha512",
    "pathexpand",
    "templatefile",
    "templatestring",
];

/// What is wrong in a file of a template: line and sentence.
pub(crate) type Wrong = (usize, String);

/// The providers that the files of a template name: whose each is, by its local name.
pub(crate) type Named = BTreeMap<String, Option<String>>;

/// Those that a file names.
pub(crate) fn providers(body: &Body) -> Named {
    let required = body.get_blocks("terraform").flat_map(|block| block.body.get_blocks("required_providers"));
    let attributes = required.flat_map(|block| block.body.attributes());
    attributes.map(|attribute| (attribute.key.to_string(), source(attribute))).collect()
}

/// Whose provider an entry of `required_providers` is.
pub(crate) fn source(attribute: &Attribute) -> Option<String> {
    let Expression::Object(fields) = &attribute.value else { return None };
    fields.iter().find_map(|(key, value)| {
        let is_source = key.as_ident().is_some_and(|ident| ident.as_str() == "source");
        is_source.then(|| value.expr().as_str().map(str::to_owned)).flatten()
    })
}

/// Reads a file of a template.
pub(crate) fn read(text: &str) -> Result<Body, String> {
    hcl_edit::parser::parse_body(text).map_err(|error| error.to_string())
}

/// Looks for what a template may not have. `providers` are those that its files name together.
pub(crate) fn lint(text: &str, body: &Body, providers: &Named) -> Vec<Wrong> {
    let mut lint = Lint { text, providers, found: Vec::new() };
    for structure in body {
        if let Some(block) = structure.as_block() {
            lint.top(block);
        }
    }
    lint.visit_body(body);
    lint.found
}

struct Lint<'a> {
    text: &'a str,
    providers: &'a Named,
    found: Vec<Wrong>,
}

impl Lint<'_> {
    fn wrong(&mut self, at: &impl Span, message: impl Into<String>) {
        let start = at.span().map_or(0, |span| span.start);
        let line = self.text.get(..start).map_or(1, |before| before.matches('\n').count() + 1);
        self.found.push((line, message.into()));
    }

    fn top(&mut self, block: &Block) {
        let label = |index: usize| block.labels.get(index).map(|label| label.as_str().to_owned());
        match block.ident.as_str() {
            "terraform" => self.settings(block),
            "resource" | "data" => {
                let kind = label(0).unwrap_or_default();
                let provider = kind.split('_').next().unwrap_or_default();
                if kind == "terraform_data" || kind == "terraform_remote_state" {
                    self.wrong(block, format!("`{kind}` is no resource of a vendor: take it out"));
                } else if !self.providers.contains_key(provider) && !named(block, "provider") {
                    self.wrong(
                        block,
                        format!(
                            "`{kind}` is of a provider that `required_providers` does not name: name it there"
                        ),
                    );
                }
            }
            "provider" => {
                let source = label(0).and_then(|name| self.providers.get(&name)?.clone());
                let elsewhere = block.body.get_attribute("base_url");
                if let Some(attribute) = elsewhere.filter(|_| source.is_some_and(|source| is_ours(&source))) {
                    self.wrong(attribute, "each run has its own way to the vendor: take `base_url` out");
                }
            }
            "module" => self.wrong(block, "modules are not carried along: write their resources here"),
            other if !BLOCKS.contains(&other) => {
                self.wrong(block, format!("a template has no block `{other}`: take it out"));
            }
            _ => {}
        }
    }

    fn settings(&mut self, block: &Block) {
        let allowed = |name: &str| SETTINGS.contains(&name);
        for inner in block.body.blocks().filter(|inner| !allowed(inner.ident.as_str())) {
            self.wrong(inner, format!("`terraform` may not have `{}`: take it out", inner.ident.as_str()));
        }
        for setting in block.body.attributes().filter(|setting| !allowed(setting.key.as_str())) {
            self.wrong(setting, format!("`terraform` may not set `{}`: take it out", setting.key.as_str()));
        }
        for backend in block.body.get_blocks("backend") {
            let is_ours = backend.labels.first().is_some_and(|label| label.as_str() == "http");
            if !is_ours || !backend.body.is_empty() {
                self.wrong(backend, "wanwright keeps the state: write `backend \"http\" {}`");
            }
        }
        let required = block.body.get_blocks("required_providers").flat_map(|block| block.body.attributes());
        for attribute in required {
            self.provider(attribute);
        }
    }

    fn provider(&mut self, attribute: &Attribute) {
        let Some(source) = source(attribute) else {
            return self.wrong(attribute, "has no `source`: say whose provider it is, as in `cato/cato`");
        };
        let name = source.rsplit('/').next().unwrap_or_default();
        if REFUSED_PROVIDERS.contains(&name) {
            self.wrong(attribute, format!("`{source}` reaches beyond the vendor: take it out"));
        }
    }
}

fn named(block: &Block, attribute: &str) -> bool {
    block.body.get_attribute(attribute).is_some()
}

impl Visit for Lint<'_> {
    fn visit_block(&mut self, block: &Block) {
        let dynamic = block.ident.as_str() == "dynamic";
        let name = match block.labels.first() {
            Some(label) if dynamic => label.as_str(),
            _ => block.ident.as_str(),
        };
        if matches!(name, "provisioner" | "connection") {
            self.wrong(block, format!("`{name}` runs programs: take it out"));
        }
        visit_block(self, block);
    }

    fn visit_for_template_expr(&mut self, directive: &ForTemplateExpr) {
        // The library's own visit leaves out what is gone through.
        self.visit_expr(&directive.collection_expr);
        visit_for_template_expr(self, directive);
    }

    fn visit_func_call(&mut self, call: &FuncCall) {
        let name = call.name.name.as_str();
        if !call.name.namespace.is_empty() {
            let is_core = call.name.namespace.len() == 1 && call.name.namespace[0].as_str() == "core";
            if !is_core {
                self.wrong(call, format!("`{name}` is a provider's function: take it out"));
            }
        }
        if FILE_FUNCTIONS.contains(&name) {
            self.wrong(call, format!("`{name}` reads files of the machine: take the value from a variable"));
        }
        visit_func_call(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "terraform {\n  required_providers {\n    wanwright = { source = \"wanwright/wanwright\" }\n  }\n  backend \"http\" {}\n}\n";

    fn lines(text: &str) -> Vec<usize> {
        let body = read(text).unwrap();
        let names = providers(&body);
        lint(text, &body, &names).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn what_reaches_beyond_the_vendor_is_found_in_its_line() {
        assert_eq!(lines(HEAD), [0; 0]);
        let site = "resource \"wanwright_simwan_site\" \"s\" {\n";
        let hostile = [
            format!("{site}  name = file(\"/etc/passwd\")\n}}"),
            format!("{site}  name = \"a ${{upper(file(\"/etc/passwd\"))}} b\"\n}}"),
            format!("{site}  name = core::file(\"/etc/passwd\")\n}}"),
            format!("{site}  name = provider::local::direxists(\"/etc\")\n}}"),
            format!("{site}  name = [for x in fileset(\"/\", \"*\") : x][0]\n}}"),
            format!("{site}  name = var.a ? templatefile(\"/etc/passwd\", {{}}) : \"\"\n}}"),
            format!("{site}  name = <<-EOT\n    %{{ for x in fileset(\"/\", \"*\") }}${{x}}%{{ endfor }}\n  EOT\n}}"),
            format!("{site}  provisioner \"local-exec\" {{\n    command = \"id\"\n  }}\n}}"),
            format!("{site}  connection {{\n  }}\n}}"),
            format!("{site}  dynamic \"provisioner\" {{\n    for_each = [1]\n  }}\n}}"),
            "\nresource \"terraform_data\" \"x\" {\n}".to_owned(),
            "\ndata \"terraform_remote_state\" \"x\" {\n  backend = \"local\"\n}".to_owned(),
            "\ndata \"external\" \"x\" {\n  program = [\"id\"]\n}".to_owned(),
            "\ndata \"local_file\" \"x\" {\n  filename = \"/etc/passwd\"\n}".to_owned(),
            "\nresource \"null_resource\" \"x\" {\n}".to_owned(),
            "\nmodule \"x\" {\n  source = \"git::https://example.org/x\"\n}".to_owned(),
            "\nmodule \"x\" {\n  source = \"../other\"\n}".to_owned(),
            "\nephemeral \"random_password\" \"x\" {\n}".to_owned(),
            "\nterraform {\n  cloud {\n  }\n}".to_owned(),
            "\nterraform {\n  backend \"local\" {\n  }\n}".to_owned(),
            "\nterraform {\n  backend \"http\" {\n    address = \"http://example.org\"\n  }\n}".to_owned(),
            "\nterraform {\n  required_providers {\n    external = { source = \"hashicorp/external\" }\n  }\n}".to_owned(),
            "\nterraform {\n  required_providers {\n    x = { source = \"registry.terraform.io/hashicorp/local\" }\n  }\n}".to_owned(),
            "\nterraform {\n  required_providers {\n    x = \"1.0\"\n  }\n}".to_owned(),
            "\nterraform {\n  experiments = [x]\n}".to_owned(),
            "\nprovider \"wanwright\" {\n  base_url = \"http://169.254.169.254\"\n}".to_owned(),
        ];
        let head = HEAD.lines().count();
        for text in hostile {
            let found = lines(&format!("{HEAD}{text}\n"));
            assert!(!found.is_empty(), "{text}");
            assert!(found.iter().all(|line| *line > head), "{found:?} {text}");
        }
    }

    #[test]
    fn what_a_vendors_template_needs_is_let_through() {
        let text = "variable \"site\" {\n  type = object({ name = string })\n}\nlocals {\n  name = upper(trimspace(var.site.name))\n}\n\
            resource \"wanwright_simwan_site\" \"site\" {\n  name = local.name\n  lifecycle {\n    prevent_destroy = true\n  }\n  \
            dynamic \"wan\" {\n    for_each = var.site.wan\n    content {\n      port = wan.value\n    }\n  }\n}\n\
            output \"site\" {\n  value = { for name, tunnel in wanwright_simwan_site.site : name => { id = tunnel.id } }\n}\n";
        assert_eq!(lines(&format!("{HEAD}{text}")), [0; 0]);
    }
}
