// Package containers has functions that are containers on Kubernetes, and what the language runtimes are there.
package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"
	"golang.org/x/sync/singleflight"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

// Containers are functions that are Deployments. What is deployed is read from a cache that watches fill, so calls and
// lists go on where the API server is away.
type Containers struct {
	client   kubernetes.Interface
	settings Settings
	address  Address
	listers  map[string]appslisters.DeploymentLister
	synced   []cache.InformerSynced
	start    []func(<-chan struct{})

	wakes singleflight.Group
	mutex sync.Mutex
	// What this process knows of each function's calls, by its label.
	activity map[string]*activity
}

// NewContainers watches the namespaces once it is started.
func NewContainers(client kubernetes.Interface, namespaces []string, settings Settings, address Address) *Containers {
	c := &Containers{
		client: client, settings: settings, address: address,
		listers: map[string]appslisters.DeploymentLister{}, activity: map[string]*activity{},
	}
	for _, namespace := range namespaces {
		// No factory for all: the gateway's rights end at these namespaces.
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
		deployments := factory.Apps().V1().Deployments()
		c.synced = append(c.synced, deployments.Informer().HasSynced)
		c.listers[namespace] = deployments.Lister()
		c.start = append(c.start, factory.Start)
	}
	return c
}

// Start begins to watch, until the context ends.
func (c *Containers) Start(ctx context.Context) {
	for _, start := range c.start {
		start(ctx.Done())
	}
}

// Synced says whether the cache is filled: before, functions would be taken for unknown.
func (c *Containers) Synced() bool {
	for _, synced := range c.synced {
		if !synced() {
			return false
		}
	}
	return true
}

// Deployment is any Deployment of the namespaces, from the cache; nil where there is none.
func (c *Containers) Deployment(namespace, name string) *appsv1.Deployment {
	lister, ok := c.listers[namespace]
	if !ok {
		return nil
	}
	deployment, err := lister.Deployments(namespace).Get(name)
	if err != nil {
		return nil
	}
	return deployment
}

// Owns every name that is nobody else's; the catalogue asks it last.
func (c *Containers) Owns(string, string) bool { return true }

// find gives a function's Deployment from the cache, and what was deployed.
func (c *Containers) find(namespace, name string) (*appsv1.Deployment, *plan, error) {
	deployment := c.Deployment(namespace, name)
	if deployment == nil || deployment.Labels[managerLabel] != manager {
		return nil, nil, functions.Unknown(namespace, name)
	}
	p, err := c.planOf(deployment)
	return deployment, p, err
}

func (c *Containers) planOf(deployment *appsv1.Deployment) (*plan, error) {
	var request types.FunctionDeployment
	if err := json.Unmarshal([]byte(deployment.Annotations[requestAnnotation]), &request); err != nil {
		return nil, fmt.Errorf("the Deployment %s/%s has a broken annotation %s: %w", deployment.Namespace, deployment.Name, requestAnnotation, err)
	}
	p, err := look(request, c.settings)
	if err != nil {
		// The inventory has become stricter since. The function runs as it was deployed.
		p = &plan{request: request, least: 1, most: 1, timeout: c.settings.Timeout}
	}
	return p, nil
}

// List has the functions of a namespace.
func (c *Containers) List(_ context.Context, namespace string) ([]types.FunctionStatus, error) {
	deployments, err := c.listers[namespace].Deployments(namespace).List(labels.SelectorFromSet(labels.Set{managerLabel: manager}))
	if err != nil {
		return nil, err
	}
	var all []types.FunctionStatus
	for _, deployment := range deployments {
		p, err := c.planOf(deployment)
		if err != nil {
			return nil, err
		}
		all = append(all, p.status(deployment))
	}
	return all, nil
}

// Get describes a function, and says why it is not ready where it is not.
func (c *Containers) Get(ctx context.Context, namespace, name string) (*types.FunctionStatus, error) {
	deployment, p, err := c.find(namespace, name)
	if err != nil {
		return nil, err
	}
	status := p.status(deployment)
	if complete := deployment.Status.UpdatedReplicas >= wanted(deployment) && deployment.Status.AvailableReplicas >= wanted(deployment); !complete {
		if reason := c.reason(ctx, deployment); reason != "" {
			(*status.Annotations)[reasonAnnotation] = reason
		}
	}
	return &status, nil
}

func wanted(deployment *appsv1.Deployment) int32 {
	if deployment.Spec.Replicas == nil {
		return 1
	}
	return *deployment.Spec.Replicas
}

func (p *plan) status(deployment *appsv1.Deployment) types.FunctionStatus {
	r := p.request
	annotations := map[string]string{functions.KindAnnotation: "container"}
	for name, value := range p.annotations {
		annotations[name] = value
	}
	if p.labels == nil {
		p.labels = map[string]string{}
	}
	return types.FunctionStatus{
		Name: r.Service, Image: r.Image, Namespace: r.Namespace, EnvProcess: r.EnvProcess, EnvVars: r.EnvVars,
		Constraints: r.Constraints, Secrets: r.Secrets, Labels: &p.labels, Annotations: &annotations,
		Limits: r.Limits, Requests: r.Requests, ReadOnlyRootFilesystem: true,
		Replicas: uint64(wanted(deployment)), AvailableReplicas: uint64(deployment.Status.AvailableReplicas),
		CreatedAt: deployment.CreationTimestamp.Time,
	}
}

// reason is why a function is not ready: what its containers wait for or died of, or what keeps pods from being made.
func (c *Containers) reason(ctx context.Context, deployment *appsv1.Deployment) string {
	found, err := c.client.CoreV1().Pods(deployment.Namespace).List(ctx, listOf(deployment.Name))
	if err != nil {
		return "the API server does not say: " + err.Error()
	}
	var reasons []string
	add := func(parts ...string) {
		text := strings.TrimSuffix(strings.Join(parts, ": "), ": ")
		for _, known := range reasons {
			if known == text {
				return
			}
		}
		reasons = append(reasons, text)
	}
	for _, condition := range deployment.Status.Conditions {
		if condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue {
			add(condition.Reason, condition.Message)
		}
	}
	for _, pod := range found.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				add(condition.Reason, condition.Message)
			}
		}
		for _, container := range pod.Status.ContainerStatuses {
			// Of a container that comes and goes, what it died of says more than that it comes again.
			if ended := container.LastTerminationState.Terminated; ended != nil {
				add(fmt.Sprintf("%s, exit code %d", ended.Reason, ended.ExitCode), ended.Message)
			}
			if waiting := container.State.Waiting; waiting != nil && waiting.Reason != "ContainerCreating" && waiting.Reason != "PodInitializing" {
				add(waiting.Reason, waiting.Message)
			}
		}
	}
	return strings.Join(reasons, "; ")
}

func listOf(name string) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: labels.SelectorFromSet(pods(name).MatchLabels).String()}
}

// Target of calls.
func (c *Containers) Target(_ context.Context, namespace, name, _ string) (*functions.Target, error) {
	deployment, p, err := c.find(namespace, name)
	if err != nil {
		return nil, err
	}
	target := &functions.Target{Name: name, Namespace: namespace, URL: c.address(namespace, name), Timeout: p.timeout, Annotations: p.annotations}
	if p.zero {
		target.Called = func() func() { return c.called(target.Label()) }
	}
	switch {
	case p.zero && deployment.Status.AvailableReplicas == 0:
		target.Wake = func(ctx context.Context) error { return c.wake(ctx, namespace, name, p.least) }
	case wanted(deployment) == 0:
		return nil, functions.Refuse(http.StatusServiceUnavailable, "the function %s is scaled to 0; the label com.openfaas.scale.zero: true would have a call wake it", target.Label())
	}
	return target, nil
}

// Deploy makes a function, or with update replaces one that is there.
func (c *Containers) Deploy(ctx context.Context, request types.FunctionDeployment, update bool) error {
	p, err := look(request, c.settings)
	if err != nil {
		return err
	}
	namespace, name := request.Namespace, request.Service
	if err := c.secretsThere(ctx, p); err != nil {
		return err
	}
	// Not from the cache, which may be behind a deployment of a moment ago.
	have, err := c.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return apiError("read", "Deployment", name, err)
	case err == nil && have.Labels[managerLabel] != manager:
		return functions.Refuse(http.StatusConflict, "the namespace %s has a Deployment %s already, which is no function", namespace, name)
	case err == nil && have.DeletionTimestamp != nil:
		return functions.Refuse(http.StatusConflict, "the function %s is still being removed; try again when its pods have ended", name)
	case err == nil && !update:
		return functions.Refuse(http.StatusConflict, "the function %s is there already; PUT replaces it", name)
	case err != nil && update:
		return functions.Unknown(namespace, name)
	}
	return c.apply(ctx, p, update)
}

// apply makes the objects in an order in which no pod is without its policy. What an attempt leaves half done the next
// one completes: each object is created or updated.
func (c *Containers) apply(ctx context.Context, p *plan, exists bool) (err error) {
	namespace, name := p.request.Namespace, p.request.Service
	if !exists {
		defer func() {
			if err != nil { // no function was made, so nothing of it stays
				_ = c.remove(context.WithoutCancel(ctx), namespace, name)
			}
		}()
	}
	if err = put(ctx, c.client.NetworkingV1().NetworkPolicies(namespace), "NetworkPolicy", p.networkPolicy(c.settings), nil); err != nil {
		return err
	}
	if err = put(ctx, c.client.CoreV1().Services(namespace), "Service", p.service(), nil); err != nil {
		return err
	}
	if err = put(ctx, c.client.AppsV1().Deployments(namespace), "Deployment", p.deployment(c.settings, p.least), func(have, want *appsv1.Deployment) {
		replicas := wanted(have) // as the autoscaler left it, within the new bounds
		if replicas > 0 || !p.zero {
			replicas = min(max(replicas, p.least), p.most)
		}
		want.Spec.Replicas = &replicas
		if last, ok := have.Annotations[calledAnnotation]; ok {
			want.Annotations[calledAnnotation] = last
		}
	}); err != nil {
		return err
	}
	if err = put(ctx, c.client.PolicyV1().PodDisruptionBudgets(namespace), "PodDisruptionBudget", p.disruptionBudget(), nil); err != nil {
		return err
	}
	if autoscaler := p.autoscaler(); autoscaler != nil {
		return put(ctx, c.client.AutoscalingV2().HorizontalPodAutoscalers(namespace), "HorizontalPodAutoscaler", autoscaler, nil)
	}
	return drop(ctx, c.client.AutoscalingV2().HorizontalPodAutoscalers(namespace), "HorizontalPodAutoscaler", name)
}

type collection[T any] interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (T, error)
	Create(ctx context.Context, object T, options metav1.CreateOptions) (T, error)
	Update(ctx context.Context, object T, options metav1.UpdateOptions) (T, error)
}

// put creates an object or replaces what is there, once `carry` has taken over what is not the request's to say.
func put[T metav1.Object](ctx context.Context, objects collection[T], kind string, want T, carry func(have, want T)) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		have, err := objects.Get(ctx, want.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = objects.Create(ctx, want, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		if have.GetLabels()[managerLabel] != manager {
			return functions.Refuse(http.StatusConflict, "the namespace %s has a %s %s already, which is no function's", want.GetNamespace(), kind, want.GetName())
		}
		want.SetResourceVersion(have.GetResourceVersion())
		if carry != nil {
			carry(have, want)
		}
		_, err = objects.Update(ctx, want, metav1.UpdateOptions{})
		return err
	})
	return apiError("write", kind, want.GetName(), err)
}

// Delete removes a function and waits for its pods, as long as the context lasts.
func (c *Containers) Delete(ctx context.Context, namespace, name string) error {
	deployment, err := c.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && deployment.Labels[managerLabel] != manager {
		return functions.Unknown(namespace, name)
	}
	if err != nil {
		return apiError("read", "Deployment", name, err)
	}
	return c.remove(ctx, namespace, name)
}

// remove keeps the policy and the Service until the last pod, which may still serve, has ended.
func (c *Containers) remove(ctx context.Context, namespace, name string) error {
	deployments := c.client.AppsV1().Deployments(namespace)
	if err := drop(ctx, c.client.AutoscalingV2().HorizontalPodAutoscalers(namespace), "HorizontalPodAutoscaler", name); err != nil {
		return err
	}
	// In the foreground: the Deployment is there until its last pod has ended.
	if err := drop(ctx, deployments, "Deployment", name, metav1.DeletePropagationForeground); err != nil {
		return err
	}
	waiting, late := context.WithTimeout(ctx, wholeTime(c.settings))
	defer late()
	for {
		if have, err := deployments.Get(waiting, name, metav1.GetOptions{}); apierrors.IsNotFound(err) || err == nil && have.Labels[managerLabel] != manager {
			break
		}
		select {
		case <-waiting.Done(): // what is left ends by itself
		case <-time.After(200 * time.Millisecond):
			continue
		}
		break
	}
	ctx = context.WithoutCancel(ctx)
	return errors.Join(
		drop(ctx, c.client.PolicyV1().PodDisruptionBudgets(namespace), "PodDisruptionBudget", name),
		drop(ctx, c.client.CoreV1().Services(namespace), "Service", name),
		drop(ctx, c.client.NetworkingV1().NetworkPolicies(namespace), "NetworkPolicy", name),
	)
}

// wholeTime is how long a pod may take to end.
func wholeTime(settings Settings) time.Duration {
	return settings.PreStop + settings.Timeout + 5*time.Second
}

// drop removes an object if it is there and is a function's.
func drop[T metav1.Object](ctx context.Context, objects interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (T, error)
	Delete(ctx context.Context, name string, options metav1.DeleteOptions) error
}, kind, name string, propagation ...metav1.DeletionPropagation) error {
	have, err := objects.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return gone(kind, name, err)
	}
	if have.GetLabels()[managerLabel] != manager {
		return nil
	}
	options := metav1.DeleteOptions{}
	for _, how := range propagation {
		options.PropagationPolicy = &how
	}
	return gone(kind, name, objects.Delete(ctx, name, options))
}

func gone(kind, name string, err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return apiError("remove", kind, name, err)
}

// apiError gives the API server's refusals the status that a client of ours should see.
func apiError(what, kind, name string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*functions.Error](err); ok {
		return err
	}
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		switch code := int(status.Status().Code); code {
		case http.StatusBadRequest, http.StatusConflict, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusTooManyRequests:
			return functions.Refuse(code, "Kubernetes refuses to %s the %s %s: %s", what, kind, name, status.Status().Message)
		}
	}
	return functions.Refuse(http.StatusServiceUnavailable, "cannot %s the %s %s: %s", what, kind, name, err)
}

// Scale sets the replicas.
func (c *Containers) Scale(ctx context.Context, namespace, name string, replicas uint64) error {
	deployment, err := c.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && deployment.Labels[managerLabel] != manager {
		return functions.Unknown(namespace, name)
	}
	if err != nil {
		return apiError("read", "Deployment", name, err)
	}
	p, err := c.planOf(deployment)
	if err != nil {
		return err
	}
	// The autoscaler would undo it; without one there is no bound but the quota.
	if p.most > p.least && replicas != 0 && (replicas < uint64(p.least) || replicas > uint64(p.most)) {
		return functions.Refuse(http.StatusBadRequest, "replicas is %d, expected 0 or %d to %d, as the labels com.openfaas.scale.min and .max of %s say", replicas, p.least, p.most, name)
	}
	if replicas > 10000 {
		return functions.Refuse(http.StatusBadRequest, "replicas is %d, expected at most 10000", replicas)
	}
	return c.setReplicas(ctx, namespace, name, int32(replicas), "")
}

// setReplicas, with a version, is refused where the Deployment has changed since.
func (c *Containers) setReplicas(ctx context.Context, namespace, name string, replicas int32, version string) error {
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if version != "" {
		patch = fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q},"spec":{"replicas":%d}}`, version, replicas)
	}
	_, err := c.client.AppsV1().Deployments(namespace).Patch(ctx, name, apitypes.MergePatchType, patch, metav1.PatchOptions{})
	return apiError("scale", "Deployment", name, err)
}
