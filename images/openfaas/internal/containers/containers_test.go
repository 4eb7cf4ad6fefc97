package containers

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

const ns = "openfaas-fn"

func someSettings(t *testing.T) Settings {
	t.Helper()
	policy, err := ReadPolicy("")
	if err != nil {
		t.Fatal(err)
	}
	policy.Flows = map[string][]networkingv1.NetworkPolicyEgressRule{"database": {{}}}
	return Settings{
		Memory: resource.MustParse("256Mi"), CPU: resource.MustParse("50m"), Timeout: 30 * time.Second, MaxTimeout: 60 * time.Second,
		User: 10001, PreStop: 5 * time.Second, Policy: policy,
	}
}

// watched are containers on a client, whose cache is filled.
func watched(t *testing.T, client kubernetes.Interface) *Containers {
	t.Helper()
	c := NewContainers(client, []string{ns}, someSettings(t), func(string, string) *url.URL { return &url.URL{Scheme: "http", Host: "x"} })
	c.Start(t.Context())
	eventually(t, "the cache is filled", c.Synced)
	return c
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if true() {
			return
		}
	}
	t.Fatalf("not within 15 s: %s", what)
}

func request(name string, change ...func(*types.FunctionDeployment)) types.FunctionDeployment {
	r := types.FunctionDeployment{Service: name, Image: "registry.example/echo:1", Namespace: ns}
	for _, c := range change {
		c(&r)
	}
	return r
}

func labelled(pairs ...string) func(*types.FunctionDeployment) {
	return func(r *types.FunctionDeployment) { r.Labels = pairsOf(pairs) }
}

func annotated(pairs ...string) func(*types.FunctionDeployment) {
	return func(r *types.FunctionDeployment) { r.Annotations = pairsOf(pairs) }
}

func pairsOf(pairs []string) *map[string]string {
	m := map[string]string{}
	for n := 0; n < len(pairs); n += 2 {
		m[pairs[n]] = pairs[n+1]
	}
	return &m
}

func TestAllThatIsWrongWithARequestIsInOneAnswer(t *testing.T) {
	_, err := look(request("Not_A_Label", labelled(
		"com.openfaas.scale.min", "3", "com.openfaas.scale.max", "2", "com.openfaas.scale.type", "rps", "com.openfaas.scale.zero", "maybe",
	), annotated(
		"seccomp.security.alpha.kubernetes.io/pod", "unconfined", "sidecar.istio.io/inject", "false", flowsAnnotation, "everything",
		"com.openfaas.health.http.path", "healthz", functions.RetryAttempts, "many", "topic", "cron-function", "schedule", "@every 5m",
	), func(r *types.FunctionDeployment) {
		r.Image = "not an image"
		r.Limits = &types.FunctionResources{Memory: "lots", CPU: "100m"}
		r.Requests = &types.FunctionResources{CPU: "200m"}
		r.EnvVars = map[string]string{"exec_timeout": "2h", "1 2": "x"}
		r.Constraints = []string{"zone"}
		r.Secrets = []string{"../etc"}
	}), someSettings(t))
	if functions.StatusOf(err) != http.StatusBadRequest {
		t.Fatalf("%v", err)
	}
	for _, named := range []string{
		`service is "Not_A_Label"`, `image is "not an image"`, "scale.max is 2", `scale.type is "rps", expected cpu`, `scale.zero is "maybe"`,
		"seccomp.security.alpha.kubernetes.io/pod is not taken", "sidecar.istio.io/inject is not taken", `the flow "everything"`,
		`health.http.path is "healthz"`, `limits.memory is "lots"`, "requests.cpu is 200m", `exec_timeout is "2h"`, `variable is "1 2"`,
		`constraint is "zone"`, `secret is "../etc"`, `retry.attempts is "many"`, `schedule is "@every 5m"`,
	} {
		if !strings.Contains(err.Error(), named) {
			t.Errorf("%s is not named in: %s", named, err)
		}
	}
}

func TestWhatARequestAsksForIsInThePod(t *testing.T) {
	p, err := look(request("f", labelled("com.openfaas.scale.max", "5", "com.openfaas.scale.target", "200", "app.kubernetes.io/name", "controller"),
		annotated("com.openfaas.ready.http.path", "/ready", "com.openfaas.ready.http.initialDelay", "3s", flowsAnnotation, "database"),
		func(r *types.FunctionDeployment) {
			r.EnvProcess = "cat"
			r.EnvVars = map[string]string{"exec_timeout": "45s"}
			r.Constraints = []string{"topology.kubernetes.io/zone == a"}
			r.Secrets = []string{"key"}
			r.Limits = &types.FunctionResources{Memory: "64Mi", CPU: "20m"}
		}), someSettings(t))
	if err != nil {
		t.Fatal(err)
	}
	deployment := p.deployment(someSettings(t), 1)
	pod := deployment.Spec.Template.Spec
	container := pod.Containers[0]
	env := map[string]string{}
	for _, variable := range container.Env {
		env[variable.Name] = variable.Value
	}
	if env["fprocess"] != "cat" || env["exec_timeout"] != "45s" || env["write_timeout"] != "45s" || *pod.TerminationGracePeriodSeconds != 52 {
		t.Errorf("%v, grace %d", env, *pod.TerminationGracePeriodSeconds)
	}
	if pod.NodeSelector["topology.kubernetes.io/zone"] != "a" || pod.Volumes[1].Projected.Sources[0].Secret.Name != "key" || container.VolumeMounts[1].MountPath != "/var/openfaas/secrets" {
		t.Errorf("%+v", pod)
	}
	if container.Resources.Limits.Memory().String() != "64Mi" || container.Resources.Requests.Cpu().String() != "20m" || container.Resources.Requests.Memory().String() != "64Mi" {
		t.Errorf("%+v", container.Resources)
	}
	if container.ReadinessProbe.HTTPGet.Path != "/ready" || container.ReadinessProbe.InitialDelaySeconds != 3 {
		t.Errorf("%+v", container.ReadinessProbe)
	}
	// A label of the request on a pod would make it the controller's in the eyes of Services and policies.
	if _, ok := deployment.Spec.Template.Labels["app.kubernetes.io/name"]; ok {
		t.Error("a label of the request is on the pod")
	}
	if hpa := p.autoscaler(); hpa.Spec.MaxReplicas != 5 || hpa.Spec.Metrics[0].ContainerResource.Target.AverageValue.String() != "200m" {
		t.Errorf("%+v", hpa.Spec)
	}
	if policy := p.networkPolicy(someSettings(t)); len(policy.Spec.Egress) != 1 || len(policy.Spec.PolicyTypes) != 2 || len(policy.Spec.Ingress[0].From) != 1 {
		t.Errorf("%+v", policy.Spec)
	}
}

func TestDeployUpdateDescribeScaleDelete(t *testing.T) {
	client := fake.NewClientset()
	lifecycle(t, client, func(name string, replicas int32) {
		deployment, err := client.AppsV1().Deployments(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		deployment.Status.AvailableReplicas, deployment.Status.UpdatedReplicas = replicas, replicas
		if _, err = client.AppsV1().Deployments(ns).UpdateStatus(t.Context(), deployment, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

// lifecycle is what every API server must do with a function.
func lifecycle(t *testing.T, client kubernetes.Interface, ready func(name string, replicas int32)) {
	ctx := t.Context()
	c := watched(t, client)
	if err := c.Deploy(ctx, request("f"), true); functions.StatusOf(err) != http.StatusNotFound {
		t.Errorf("an update of nothing, which faas-cli does first: %v", err)
	}
	if err := c.Deploy(ctx, request("f", func(r *types.FunctionDeployment) { r.Secrets = []string{"one", "two"} }), false); functions.StatusOf(err) != 400 || !strings.Contains(err.Error(), "one, two") {
		t.Errorf("missing secrets: %v", err)
	}
	if err := c.PutSecret(ctx, types.Secret{Name: "one", Namespace: ns, Value: "s3cret"}, false); err != nil {
		t.Fatal(err)
	}
	first := request("f", labelled("com.openfaas.scale.min", "2", "com.openfaas.scale.max", "6", "team", "a"), annotated("note", "x"),
		func(r *types.FunctionDeployment) { r.Secrets = []string{"one"} })
	if err := c.Deploy(ctx, first, false); err != nil {
		t.Fatal(err)
	}
	if err := c.Deploy(ctx, first, false); functions.StatusOf(err) != http.StatusConflict {
		t.Errorf("the same again by POST: %v", err)
	}
	eventually(t, "the function is listed", func() bool { all, _ := c.List(ctx, ns); return len(all) == 1 })
	status, err := c.Get(ctx, ns, "f")
	if err != nil || status.Image != first.Image || (*status.Labels)["team"] != "a" || (*status.Annotations)["note"] != "x" || status.Replicas != 2 || !slices.Equal(status.Secrets, []string{"one"}) {
		t.Errorf("%+v, %v", status, err)
	}
	if err := c.DeleteSecret(ctx, ns, "one"); functions.StatusOf(err) != http.StatusConflict {
		t.Errorf("a secret in use: %v", err)
	}
	ready("f", 2)
	eventually(t, "it is available", func() bool { status, _ = c.Get(ctx, ns, "f"); return status.AvailableReplicas == 2 })

	if err := c.Scale(ctx, ns, "f", 7); functions.StatusOf(err) != 400 || !strings.Contains(err.Error(), "0 or 2 to 6") {
		t.Errorf("more than its maximum: %v", err)
	}
	if err := c.Scale(ctx, ns, "f", 4); err != nil {
		t.Error(err)
	}
	second := first
	second.Image = "registry.example/echo:2"
	if err := c.Deploy(ctx, second, true); err != nil {
		t.Fatal(err)
	}
	deployment, err := client.AppsV1().Deployments(ns).Get(ctx, "f", metav1.GetOptions{})
	if err != nil || *deployment.Spec.Replicas != 4 || deployment.Spec.Template.Spec.Containers[0].Image != second.Image {
		t.Errorf("an update does not keep what the autoscaler set: %+v, %v", deployment.Spec, err)
	}
	if _, err := client.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(ctx, "f", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	second.Labels = nil
	if err := c.Deploy(ctx, second, true); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(ctx, "f", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the autoscaler of a function that has no bounds any more: %v", err)
	}
	for name, get := range map[string]func() error{
		"Service": func() error { _, err := client.CoreV1().Services(ns).Get(ctx, "f", metav1.GetOptions{}); return err },
		"NetworkPolicy": func() error {
			_, err := client.NetworkingV1().NetworkPolicies(ns).Get(ctx, "f", metav1.GetOptions{})
			return err
		},
		"PodDisruptionBudget": func() error {
			_, err := client.PolicyV1().PodDisruptionBudgets(ns).Get(ctx, "f", metav1.GetOptions{})
			return err
		},
	} {
		if err := get(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Delete(ctx, ns, "f"); err != nil {
		t.Fatal(err)
	}
	services, _ := client.CoreV1().Services(ns).List(ctx, metav1.ListOptions{})
	policies, _ := client.NetworkingV1().NetworkPolicies(ns).List(ctx, metav1.ListOptions{})
	if len(services.Items)+len(policies.Items) != 0 {
		t.Errorf("%d Services and %d NetworkPolicies are left", len(services.Items), len(policies.Items))
	}
	if err := c.Delete(ctx, ns, "f"); functions.StatusOf(err) != http.StatusNotFound {
		t.Errorf("removed twice: %v", err)
	}
	eventually(t, "the secret is free", func() bool { return c.DeleteSecret(ctx, ns, "one") == nil })
}

func TestWhatIsNotOursIsNotTouched(t *testing.T) {
	foreign := metav1.ObjectMeta{Name: "python-runtime", Namespace: ns}
	client := fake.NewClientset(&appsv1.Deployment{ObjectMeta: foreign}, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pull", Namespace: ns}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "taken", Namespace: ns}})
	c := watched(t, client)
	for name, err := range map[string]error{
		"replaced":         c.Deploy(t.Context(), request("python-runtime"), true),
		"made":             c.Deploy(t.Context(), request("python-runtime"), false),
		"its Service":      c.Deploy(t.Context(), request("taken"), false),
		"removed":          c.Delete(t.Context(), ns, "python-runtime"),
		"scaled":           c.Scale(t.Context(), ns, "python-runtime", 0),
		"secret mounted":   c.Deploy(t.Context(), request("f", func(r *types.FunctionDeployment) { r.Secrets = []string{"pull"} }), false),
		"secret replaced":  c.PutSecret(t.Context(), types.Secret{Name: "pull", Namespace: ns, Value: "x"}, true),
		"secret removed":   c.DeleteSecret(t.Context(), ns, "pull"),
		"secret made anew": c.PutSecret(t.Context(), types.Secret{Name: "pull", Namespace: ns, Value: "x"}, false),
	} {
		if err == nil || functions.StatusOf(err) >= 500 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The refused function with the taken Service leaves nothing behind.
	if policies, _ := client.NetworkingV1().NetworkPolicies(ns).List(t.Context(), metav1.ListOptions{}); len(policies.Items) != 0 {
		t.Errorf("%d policies are left", len(policies.Items))
	}
	if _, err := client.CoreV1().Services(ns).Get(t.Context(), "taken", metav1.GetOptions{}); err != nil {
		t.Errorf("somebody's Service was removed: %v", err)
	}
}

func TestDescribeSaysWhyAFunctionIsNotReady(t *testing.T) {
	client := fake.NewClientset()
	c := watched(t, client)
	if err := c.Deploy(t.Context(), request("f"), false); err != nil {
		t.Fatal(err)
	}
	_, err := client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "f-1", Namespace: ns, Labels: pods("f").MatchLabels},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 13}},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the function is known", func() bool { return c.Deployment(ns, "f") != nil })
	status, err := c.Get(t.Context(), ns, "f")
	if err != nil || (*status.Annotations)[reasonAnnotation] != "Error, exit code 13; ImagePullBackOff: no such image" {
		t.Errorf("%v %v", status, err)
	}
}

func TestCallsGoOnWithoutTheAPIServer(t *testing.T) {
	client := fake.NewClientset()
	c := watched(t, client)
	if err := c.Deploy(t.Context(), request("f"), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the function is known", func() bool { return c.Deployment(ns, "f") != nil })
	client.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, &url.Error{Op: "Get", URL: "https://10.0.0.1", Err: context.DeadlineExceeded}
	})
	if _, err := c.Target(t.Context(), ns, "f", ""); err != nil {
		t.Error(err)
	}
	if all, err := c.List(t.Context(), ns); err != nil || len(all) != 1 {
		t.Errorf("%v %v", all, err)
	}
	if err := c.Deploy(t.Context(), request("g"), false); functions.StatusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("a deployment: %v", err)
	}
}

func TestAFunctionSleepsWhenIdleAndOneStartServesAllThatCall(t *testing.T) {
	client := fake.NewClientset()
	var scaled atomic.Int32
	client.PrependReactor("patch", "deployments", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if strings.Contains(string(action.(clienttesting.PatchAction).GetPatch()), `"replicas":1`) {
			scaled.Add(1)
		}
		return false, nil, nil
	})
	c := watched(t, client)
	if err := c.Deploy(t.Context(), request("f", labelled("com.openfaas.scale.zero", "true", "com.openfaas.scale.zero-duration", "2m")), false); err != nil {
		t.Fatal(err)
	}
	available := func(n int32) {
		deployment, _ := client.AppsV1().Deployments(ns).Get(context.Background(), "f", metav1.GetOptions{})
		deployment.Status.AvailableReplicas = n
		if _, err := client.AppsV1().Deployments(ns).UpdateStatus(context.Background(), deployment, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
		eventually(t, "the cache has it", func() bool { return c.Deployment(ns, "f").Status.AvailableReplicas == n })
	}
	eventually(t, "the function is known", func() bool { return c.Deployment(ns, "f") != nil })
	available(1)
	replicas := func() int32 { return wanted(c.Deployment(ns, "f")) }

	target, err := c.Target(t.Context(), ns, "f", "")
	if err != nil || target.Wake != nil {
		t.Fatalf("%+v %v", target, err)
	}
	now := time.Now()
	end := target.Called()
	c.lookForIdle(t.Context(), now)
	eventually(t, "the call is noted", func() bool { return c.Deployment(ns, "f").Annotations[calledAnnotation] != "" })
	c.lookForIdle(t.Context(), now.Add(10*time.Minute)) // a call that lasts is a call
	if replicas() != 1 {
		t.Fatal("a function under way was put to sleep")
	}
	end()
	c.lookForIdle(t.Context(), now.Add(11*time.Minute)) // notes the end
	eventually(t, "the end is noted", func() bool { return called(c.Deployment(ns, "f")).Unix() == now.Add(11*time.Minute).Unix() })
	c.lookForIdle(t.Context(), now.Add(12*time.Minute))
	if replicas() != 1 {
		t.Fatal("put to sleep a minute after the last call")
	}
	eventually(t, "it sleeps", func() bool { c.lookForIdle(t.Context(), now.Add(14*time.Minute)); return replicas() == 0 })
	available(0)

	target, err = c.Target(t.Context(), ns, "f", "")
	if err != nil || target.Wake == nil {
		t.Fatalf("%+v %v", target, err)
	}
	scaled.Store(0)
	var callers sync.WaitGroup
	for range 2000 {
		callers.Go(func() {
			if err := target.Wake(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "it is started", func() bool { return replicas() == 1 })
	available(1)
	callers.Wait()
	if scaled.Load() != 1 {
		t.Errorf("started %d times", scaled.Load())
	}
}

func TestASecondGatewayDoesNotPutToSleepWhatHasChanged(t *testing.T) {
	p, _ := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": "1"}})
	client := fake.NewClientset()
	client.PrependReactor("patch", "deployments", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if strings.Contains(string(action.(clienttesting.PatchAction).GetPatch()), strings.Trim(string(p), "{}")) {
			return true, nil, apierrors.NewConflict(appsv1.Resource("deployments"), "f", nil)
		}
		return false, nil, nil
	})
	c := watched(t, client)
	if err := c.setReplicas(t.Context(), ns, "f", 0, "1"); functions.StatusOf(err) != http.StatusConflict {
		t.Errorf("%v", err)
	}
}
