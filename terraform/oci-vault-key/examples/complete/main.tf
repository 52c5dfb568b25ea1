# A vault that is there already, a key that it makes, and the lines for inhouse.yaml.

terraform {
  required_version = ">= 1.7.0"

  required_providers {
    oci = {
      source  = "oracle/oci"
      version = ">= 7.0.0"
    }
  }
}

provider "oci" {
  region = var.region
}

variable "region" {
  description = "Region of the vault."
  type        = string
  default     = "eu-frankfurt-1"
}

variable "compartment_id" {
  description = "OCID of the compartment."
  type        = string
}

variable "vault_id" {
  description = "OCID of the vault."
  type        = string
}

variable "key_id" {
  description = "OCID of a symmetric key in the vault."
  type        = string
}

module "api_key" {
  source = "../.."

  compartment_id = var.compartment_id
  vault_id       = var.vault_id
  key_id         = var.key_id
  region         = var.region
  freeform_tags  = { service = "inhouse" }
}

output "inhouse_yaml" {
  description = "For inhouse.yaml."
  value       = module.api_key.inhouse_yaml
}

output "secret_ocid" {
  description = "OCID of the secret."
  value       = module.api_key.secret_ocid
}
