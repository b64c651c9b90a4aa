# The second version of it.
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
