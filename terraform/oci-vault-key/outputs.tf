output "secret_ocid" {
  description = "OCID of the secret: for policies, audits and `oci secrets secret-bundle get --secret-id`."
  value       = oci_vault_secret.api_key.id
}

output "secret_name" {
  description = "Its name in the vault: what the ExternalSecret's remoteRef.key says."
  value       = oci_vault_secret.api_key.secret_name
}

output "vault_ocid" {
  description = "OCID of the vault: what the SecretStore says."
  value       = var.vault_id
}

output "inhouse_yaml" {
  description = "The part of inhouse.yaml that reads this secret: terraform output -raw inhouse_yaml"
  value = yamlencode({
    deploy = {
      secrets = {
        store  = "oci"
        vault  = var.vault_id
        region = var.region
        prefix = var.prefix
      }
    }
  })
}

output "policy_statement" {
  description = "What a policy must allow the cluster's nodes or workloads (the SUBJECT) so that they may read the secret."
  value       = "Allow SUBJECT to read secret-bundles in compartment id ${var.compartment_id} where target.secret.name = '${local.secret_name}'"
}
