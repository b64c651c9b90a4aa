# The stack of one site. Values arrive as JSON variables, never as text.
terraform {
  required_providers {
    wanwright = { source = "wanwright/wanwright" }
  }
  backend "http" {}
}

variable "site" {
  type = object({
    name     = string
    uid      = string
    lan      = list(string)
    settings = object({ town = string })
  })
}

variable "tunnels" {
  type = any
}

resource "wanwright_loomwan_site" "site" {
  name            = var.site.name
  lan             = var.site.lan
  town            = var.site.settings.town
  idempotency_key = var.site.uid
}

output "site" {
  value = { id = wanwright_loomwan_site.site.id }
}
