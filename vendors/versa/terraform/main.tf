# The stack of one site: its device group. Values arrive as JSON variables, never as text.
terraform {
  required_providers {
    wanwright = { source = "wanwright/wanwright" }
  }
  backend "http" {}
}

variable "site" {
  type = object({
    name     = string
    settings = object({ organization = string, template = string })
  })
}

# The Director makes the tunnels of the overlay itself.
variable "tunnels" {
  type = any
}

resource "wanwright_versa_site" "site" {
  name         = var.site.name
  organization = var.site.settings.organization
  template     = var.site.settings.template
}

output "site" {
  value = { id = wanwright_versa_site.site.id }
}
