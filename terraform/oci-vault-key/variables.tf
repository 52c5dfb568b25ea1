variable "compartment_id" {
  description = "OCID of the compartment that the secret is kept in."
  type        = string

  validation {
    condition     = can(regex("^ocid1\\.(compartment|tenancy)\\.", var.compartment_id))
    error_message = "compartment_id is the OCID of a compartment: ocid1.compartment.… (or of the tenancy)."
  }
}

variable "vault_id" {
  description = "OCID of the vault; inhouse.yaml names the same one in deploy.secrets.vault."
  type        = string

  validation {
    condition     = can(regex("^ocid1\\.vault\\.", var.vault_id))
    error_message = "vault_id is the OCID of a vault: ocid1.vault.…"
  }
}

variable "key_id" {
  description = "OCID of the vault's symmetric key that encrypts the secret."
  type        = string

  validation {
    condition     = can(regex("^ocid1\\.key\\.", var.key_id))
    error_message = "key_id is the OCID of a key: ocid1.key.…"
  }
}

variable "region" {
  description = "Region of the vault, such as eu-frankfurt-1; it goes into the output inhouse_yaml and nowhere else."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region is a region's identifier such as eu-frankfurt-1."
  }
}

variable "prefix" {
  description = "What the secret's name begins with: deploy.secrets.prefix of inhouse.yaml."
  type        = string
  default     = "inhouse-"

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{0,200}$", var.prefix))
    error_message = "prefix has letters, digits, dots, hyphens and underscores only: it begins a secret's name."
  }
}

variable "api_key" {
  description = "The key, where you bring one. Left out, the vault makes it: then it is neither in a plan nor in the state."
  type        = string
  default     = null
  sensitive   = true

  # Its length is checked in main.tf: a failed validation here would print the key.
}

variable "key_length" {
  description = "Characters of the key that the vault makes."
  type        = number
  default     = 32

  validation {
    condition     = var.key_length >= 32 && var.key_length <= 64 && floor(var.key_length) == var.key_length
    error_message = "key_length is a whole number from 32 to 64."
  }
}

variable "freeform_tags" {
  description = "Tags of the secret."
  type        = map(string)
  default     = {}
}
