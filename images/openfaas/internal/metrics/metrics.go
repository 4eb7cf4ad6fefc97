// Package metrics counts calls under the names that dashboards for OpenFaaS know.
package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Calls are the counts of one program. No label takes a value from a request: functions that do not exist have none.
type Calls struct {
	Registry *prometheus.Registry
	started  *prometheus.CounterVec
	total    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	Async    *prometheus.CounterVec
}

// New makes them, with the process's own.
func New(process ...prometheus.Collector) *Calls {
	c := &Calls{
		Registry: prometheus.NewRegistry(),
		started: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_function_invocation_started", Help: "Calls of a function that have begun",
		}, []string{"function_name"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_function_invocation_total", Help: "Calls of a function that have ended, by status code",
		}, []string{"function_name", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_functions_seconds", Help: "Time of a call from its headers to the end of its answer",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60},
		}, []string{"function_name", "code"}),
		Async: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_async_calls_total", Help: "Asynchronous calls by what became of them",
		}, []string{"outcome"}),
	}
	c.Registry.MustRegister(c.started, c.total, c.seconds, c.Async)
	c.Registry.MustRegister(process...)
	return c
}

// Begin counts a call; what it returns ends it.
func (c *Calls) Begin(function string) func(status int) {
	c.started.WithLabelValues(function).Inc()
	began := time.Now()
	return func(status int) {
		code := strconv.Itoa(status)
		c.total.WithLabelValues(function, code).Inc()
		c.seconds.WithLabelValues(function, code).Observe(time.Since(began).Seconds())
	}
}

// Replicas is gateway_service_count, read when it is scraped: replicas that take calls, by function.
type Replicas func(report func(function string, available float64))

var replicas = prometheus.NewDesc("gateway_service_count", "Replicas of a function that take calls", []string{"function_name"}, nil)

// Describe is the collector's.
func (r Replicas) Describe(to chan<- *prometheus.Desc) { to <- replicas }

// Collect is the collector's.
func (r Replicas) Collect(to chan<- prometheus.Metric) {
	r(func(function string, available float64) {
		to <- prometheus.MustNewConstMetric(replicas, prometheus.GaugeValue, available, function)
	})
}
