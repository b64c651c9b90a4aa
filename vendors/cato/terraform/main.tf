# The stack of one site. Values arrive as JSON variables, never as text.
terraform {
  required_providers {
    wanwright = { source = "wanwright/wanwright" }
  }
  backend "http" {}
}

variable "site" {
  type = object({
    name = string
    settings = object({
      account_id      = string
      native_range    = string
      connection_type = string
      site_type       = string
      description     = string
      country         = string
      state           = string
      city            = string
      timezone        = string
    })
  })
}

# A Socket makes its tunnels to the cloud itself.
variable "tunnels" {
  type = any
}

resource "wanwright_cato_site" "site" {
  name            = var.site.name
  account_id      = var.site.settings.account_id
  native_range    = var.site.settings.native_range
  connection_type = var.site.settings.connection_type
  site_type       = var.site.settings.site_type
  description     = var.site.settings.description
  country         = var.site.settings.country
  state           = var.site.settings.state == "" ? null : var.site.settings.state
  city            = var.site.settings.city == "" ? null : var.site.settings.city
  timezone        = var.site.settings.timezone
}

output "site" {
  value = { id = wanwright_cato_site.site.id }
}
