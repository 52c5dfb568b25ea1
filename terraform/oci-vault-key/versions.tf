terraform {
  required_version = ">= 1.7.0" # the first with mock_provider, which the tests need

  required_providers {
    oci = {
      source  = "oracle/oci"
      version = ">= 7.0.0"
    }
  }
}
