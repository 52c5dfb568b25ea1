"""An installation in a namespace that is somebody else's."""

from __future__ import annotations

from inhouse.deploy.inventory import selects
from inhouse.deploy.tree import tree
from rendered import objects, site

NAME = "kubernetes.io/metadata.name"
OF_A_NEIGHBOUR = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "engine"}


def test_the_namespace_of_others_is_not_made_and_not_taken_away() -> None:
    """No Namespace object is there to apply or to delete, and Argo CD may not make one."""
    files = tree(site("shared-namespace"))
    assert not [one for one in objects(files) if one["kind"] == "Namespace"]
    (applied,) = (file for file in files if file.path == "gitops/argocd.yaml")
    assert "clusterResourceWhitelist" not in applied.text


def test_nothing_of_a_neighbour_is_closed_or_opened() -> None:
    """Policies of the network and of the mesh choose pods of the installation only, and let in none of others."""
    for one in objects(tree(site("shared-namespace"))):
        if one["kind"] == "PeerAuthentication":
            assert not selects(one["spec"]["selector"], OF_A_NEIGHBOUR)
        if one["kind"] == "NetworkPolicy":
            assert not selects(one["spec"]["podSelector"], OF_A_NEIGHBOUR)
            for rule in one["spec"].get("ingress", []):
                for whom in rule.get("from", []):
                    if "namespaceSelector" in whom:
                        assert whom["namespaceSelector"]["matchLabels"] == {NAME: "monitoring"}
                    else:
                        assert not selects(whom["podSelector"], OF_A_NEIGHBOUR)


def test_the_page_says_what_labels_the_namespace_needs() -> None:
    """Those that the installation would have given it."""
    (page,) = (file.text for file in tree(site("shared-namespace")) if file.path == "README.md")
    labels = {"pod-security.kubernetes.io/enforce=restricted", "istio-injection=enabled"}
    (line,) = (line for line in page.splitlines() if line.startswith("kubectl label namespace team-a "))
    assert labels <= set(line.split())
    assert "kubectl create namespace" not in page
