// Command eck is the operator of Elastic's workloads (Elastic Cloud on Kubernetes), as upstream's image has it.
package main

import (
	"os"

	"github.com/elastic/cloud-on-k8s/v3/cmd/manager"
	"github.com/spf13/cobra"
)

func main() {
	root := &cobra.Command{Use: "elastic-operator", SilenceUsage: true}
	root.AddCommand(manager.Command())
	if root.Execute() != nil {
		os.Exit(1)
	}
}
