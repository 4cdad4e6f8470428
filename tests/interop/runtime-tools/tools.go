//go:build tools

// Package interop names the programs of others that are built here, so that go.mod holds their versions.
package interop

import (
	_ "github.com/opencontainers/runtime-tools/cmd/runtimetest"
	_ "github.com/opencontainers/runtime-tools/validation/util"
)
