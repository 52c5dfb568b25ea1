locals {
  # What the ExternalSecret that `inhouse render` writes asks the vault for: prefix, then the variable's name in small
  # letters with hyphens.
  secret_name = "${var.prefix}inhouse-api-key"

  # Whether there is a key of yours is no secret; what it is stays one.
  made = nonsensitive(var.api_key == null)
}

resource "oci_vault_secret" "api_key" {
  compartment_id = var.compartment_id
  vault_id       = var.vault_id
  key_id         = var.key_id
  secret_name    = local.secret_name
  description    = "First API key of inhouse"
  freeform_tags  = var.freeform_tags

  enable_auto_generation = local.made

  dynamic "secret_generation_context" {
    for_each = local.made ? [1] : []

    content {
      generation_type     = "PASSPHRASE"
      generation_template = "SECRETS_DEFAULT_PASSWORD"
      passphrase_length   = var.key_length
    }
  }

  dynamic "secret_content" {
    for_each = local.made ? [] : [1]

    content {
      content_type = "BASE64"
      content      = base64encode(var.api_key)
      stage        = "CURRENT"
    }
  }

  lifecycle {
    # A key that clients use is not thrown away by accident.
    prevent_destroy = true

    precondition {
      condition     = local.made ? true : can(regex("^[!-~]{32,512}$", var.api_key))
      error_message = "api_key has 32 to 512 characters without spaces, as `openssl rand -hex 32` makes them."
    }
  }
}
