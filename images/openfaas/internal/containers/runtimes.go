package containers

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/openfaas/faas-provider/types"
	appsv1 "k8s.io/api/apps/v1"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

// Runtimes are the platform's language runtimes: Deployments that a role installs, each behind a Service of its name.
type Runtimes struct {
	Namespace string
	Names     []string
	Timeout   time.Duration
	Address   Address
	// Deployment gives the Deployment of a name from a cache, nil where there is none.
	Deployment func(namespace, name string) *appsv1.Deployment
}

// Instead says who changes a runtime.
func (r *Runtimes) Instead() string { return "the language runtimes are the inventory's" }

// Owns the names of the runtimes.
func (r *Runtimes) Owns(namespace, name string) bool {
	return namespace == r.Namespace && slices.Contains(r.Names, name)
}

// List has those that are installed.
func (r *Runtimes) List(ctx context.Context, namespace string) ([]types.FunctionStatus, error) {
	var all []types.FunctionStatus
	for _, name := range r.Names {
		if status, err := r.Get(ctx, namespace, name); err == nil && namespace == r.Namespace {
			all = append(all, *status)
		}
	}
	return all, nil
}

// Get describes one by its Deployment.
func (r *Runtimes) Get(_ context.Context, namespace, name string) (*types.FunctionStatus, error) {
	deployment := r.Deployment(namespace, name)
	if deployment == nil {
		return nil, functions.Unknown(namespace, name)
	}
	status := types.FunctionStatus{
		Name: name, Namespace: namespace, CreatedAt: deployment.CreationTimestamp.Time,
		Replicas: uint64(wanted(deployment)), AvailableReplicas: uint64(deployment.Status.AvailableReplicas),
		Labels: &map[string]string{}, Annotations: &map[string]string{functions.KindAnnotation: "runtime"}, ReadOnlyRootFilesystem: true,
	}
	if containers := deployment.Spec.Template.Spec.Containers; len(containers) > 0 {
		status.Image = containers[0].Image
	}
	maps.Copy(*status.Labels, deployment.Labels)
	return &status, nil
}

// Target needs no API server, so calls go on without one.
func (r *Runtimes) Target(_ context.Context, namespace, name, _ string) (*functions.Target, error) {
	return &functions.Target{Name: name, Namespace: namespace, URL: r.Address(namespace, name), Timeout: r.Timeout, Runtime: true}, nil
}
