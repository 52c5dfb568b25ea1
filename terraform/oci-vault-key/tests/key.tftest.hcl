# Without an account: `terraform init && terraform test` (the provider is downloaded, and mocked).

mock_provider "oci" {}

variables {
  compartment_id = "ocid1.compartment.oc1..aaaa"
  vault_id       = "ocid1.vault.oc1.eu-frankfurt-1.bbbb"
  key_id         = "ocid1.key.oc1.eu-frankfurt-1.cccc"
  region         = "eu-frankfurt-1"
}

run "the_vault_makes_the_key" {
  command = plan

  assert {
    condition     = oci_vault_secret.api_key.enable_auto_generation
    error_message = "Without a key of yours, the vault makes one."
  }

  assert {
    condition     = length(oci_vault_secret.api_key.secret_content) == 0
    error_message = "A key that the vault makes is in no plan."
  }

  assert {
    condition     = output.secret_name == "inhouse-inhouse-api-key"
    error_message = "The name is the one that the rendered ExternalSecret asks for."
  }
}

run "a_key_of_yours_is_stored_as_it_is" {
  command = plan

  variables {
    api_key = "0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = base64decode(oci_vault_secret.api_key.secret_content[0].content) == "0123456789abcdef0123456789abcdef"
    error_message = "Base64, once."
  }

  assert {
    condition     = length(oci_vault_secret.api_key.secret_generation_context) == 0
    error_message = "Nothing is generated beside a key of yours."
  }
}

run "the_prefix_is_that_of_the_stack" {
  command = plan

  variables {
    prefix = "team-a-"
  }

  assert {
    condition     = output.secret_name == "team-a-inhouse-api-key"
    error_message = "The prefix stands before the variable's name."
  }

  assert {
    condition     = yamldecode(output.inhouse_yaml).deploy.secrets.prefix == "team-a-"
    error_message = "inhouse.yaml is told the same prefix."
  }
}

run "a_short_key_is_refused" {
  command = plan

  variables {
    api_key = "short"
  }

  expect_failures = [oci_vault_secret.api_key]
}

run "an_ocid_of_something_else_is_refused" {
  command = plan

  variables {
    vault_id = "ocid1.key.oc1.eu-frankfurt-1.cccc"
  }

  expect_failures = [var.vault_id]
}

run "a_length_that_is_too_small_is_refused" {
  command = plan

  variables {
    key_length = 8
  }

  expect_failures = [var.key_length]
}
