// Prometheus rules out of the objectives on standard input, on standard output: what `sloth generate` writes, by its library, without
// the Kubernetes controller that sloth's own program brings along (half of its packages).
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/slok/sloth/pkg/lib"
)

func main() {
	if err := generate(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "slo:", err)
		os.Exit(1)
	}
}

func generate(in io.Reader, out io.Writer) error {
	spec, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	// The windows are sloth's own for 30 days: pages at 14.4 times the budget (5m and 1h) and 6 (30m and 6h), tickets at 3 (2h and 1d)
	// and 1 (6h and 3d).
	generator, err := lib.NewPrometheusSLOGenerator(lib.PrometheusSLOGeneratorConfig{})
	if err != nil {
		return err
	}
	rules, err := generator.GenerateFromRaw(context.Background(), spec)
	if err != nil {
		return err
	}
	// A rate over three days reads 17,000 samples a series: once a minute, not at each scrape.
	for i := range rules.SLOResults {
		made := &rules.SLOResults[i].PrometheusRules
		made.SLIErrorRecRules.Interval = time.Minute
		made.MetadataRecRules.Interval = time.Minute
	}
	return generator.WriteResultAsPrometheusStd(context.Background(), *rules, out)
}
