//go:build tools

// Helm 4, at the version of go.mod.
package helm4

import _ "helm.sh/helm/v4/cmd/helm"
