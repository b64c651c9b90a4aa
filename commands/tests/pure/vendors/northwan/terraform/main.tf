# The stack of one site, for the tests of the rules: nobody applies it.
terraform {
  required_providers {
    wanwright = { source = "wanwright/wanwright" }
  }
  backend "http" {}
}

resource "wanwright_northwan_site" "site" {
  name = "site"
}

output "site" {
  value = { id = wanwright_northwan_site.site.id }
}
