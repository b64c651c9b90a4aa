# The stack of one Socket site through Cato's own provider. Not active: see README.md. Values arrive as JSON variables,
# never as text.
terraform {
  required_providers {
    cato = { source = "catonetworks/cato" }
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

# Where Cato is, is put into `baseurl` for each run, and the gateway puts the key in the place of this token.
provider "cato" {
  account_id = var.site.settings.account_id
  token      = "gateway"
}

resource "cato_socket_site" "site" {
  name            = var.site.name
  description     = var.site.settings.description
  connection_type = var.site.settings.connection_type
  site_type       = var.site.settings.site_type
  native_range = {
    native_network_range = var.site.settings.native_range
    # The Socket's own address: the first of the range, as in Cato's examples.
    local_ip = cidrhost(var.site.settings.native_range, 1)
  }
  site_location = {
    country_code = var.site.settings.country
    state_code   = var.site.settings.state == "" ? null : var.site.settings.state
    city         = var.site.settings.city == "" ? null : var.site.settings.city
    timezone     = var.site.settings.timezone
  }
}

output "site" {
  value = { id = cato_socket_site.site.id }
}
