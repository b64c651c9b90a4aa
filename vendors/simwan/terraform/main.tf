# The stack of one site: the site and the tunnels it owns. Values arrive as JSON variables, never as text.
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
    settings = object({ location = string })
  })
}

variable "tunnels" {
  type = map(object({
    name         = string
    uid          = string
    inside       = string
    peer_address = string
    local_asn    = number
    peer_asn     = number
    settings     = object({ mtu = number, psk = optional(string) })
  }))
}

resource "wanwright_simwan_site" "site" {
  name            = var.site.name
  lan             = var.site.lan
  location        = var.site.settings.location
  idempotency_key = var.site.uid
}

resource "wanwright_simwan_tunnel" "tunnel" {
  for_each        = var.tunnels
  name            = each.value.name
  site_id         = wanwright_simwan_site.site.id
  inside          = each.value.inside
  peer_address    = each.value.peer_address
  local_asn       = each.value.local_asn
  peer_asn        = each.value.peer_asn
  mtu             = each.value.settings.mtu
  psk             = each.value.settings.psk
  idempotency_key = each.value.uid
}

output "site" {
  value = { id = wanwright_simwan_site.site.id, address = wanwright_simwan_site.site.address }
}

output "tunnels" {
  value = { for name, tunnel in wanwright_simwan_tunnel.tunnel : name => { id = tunnel.id } }
}
