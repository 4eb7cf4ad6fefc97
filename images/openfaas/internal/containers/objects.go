package containers

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	managerLabel  = "app.kubernetes.io/managed-by"
	manager       = "openfaas-compatible-gateway"
	functionLabel = "faas_function"
	// The request as it came: what is listed and described is what was deployed, whatever Kubernetes makes of it.
	requestAnnotation = "openfaas.lambda-microservice.platform/request"
	calledAnnotation  = "openfaas.lambda-microservice.platform/called"
	secretsFolder     = "/var/openfaas/secrets"
	containerName     = "function"
)

func (p *plan) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: p.request.Service, Namespace: p.request.Namespace,
		Labels: map[string]string{managerLabel: manager, functionLabel: p.request.Service, "app.kubernetes.io/component": "function"},
	}
}

// pods selects the function's own. Labels of a request never come to a pod: one of them could make the pod a member of
// another Service, or open it another's NetworkPolicy.
func pods(name string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: map[string]string{managerLabel: manager, functionLabel: name}}
}

func (p *plan) deployment(settings Settings, replicas int32) *appsv1.Deployment {
	request, err := json.Marshal(p.request)
	if err != nil {
		panic(err) // strings and maps of strings
	}
	meta := p.meta()
	meta.Annotations = map[string]string{requestAnnotation: string(request)}
	selector := pods(p.request.Service)
	none, one := intstr.FromInt32(0), intstr.FromString("25%")
	return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Replicas:                new(replicas),
		Selector:                &selector,
		RevisionHistoryLimit:    new(int32(3)),
		ProgressDeadlineSeconds: new(int32(120)),
		// The old pods stay until new ones are ready.
		Strategy: appsv1.DeploymentStrategy{
			Type:          appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &one},
		},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: p.pod(settings)},
	}}
}

// pod is what Pod Security calls restricted, with a root that cannot be written to besides.
func (p *plan) pod(settings Settings) corev1.PodSpec {
	// The files of a secret are its keys, and each secret of ours has one key of its own name.
	secrets := &corev1.ProjectedVolumeSource{DefaultMode: new(int32(0o444))}
	for _, name := range p.request.Secrets {
		secrets.Sources = append(secrets.Sources, corev1.VolumeProjection{
			Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		})
	}
	container := corev1.Container{
		Name: containerName, Image: p.request.Image, Env: p.environment(),
		Ports:        []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		Resources:    corev1.ResourceRequirements{Limits: p.limits, Requests: p.requests},
		VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		// A function that listens is ready, unless an annotation names a path that says so better.
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}, PeriodSeconds: 2,
		},
	}
	if p.ready != nil {
		container.ReadinessProbe = p.ready.kubernetes()
	}
	if p.live != nil {
		container.LivenessProbe = p.live.kubernetes()
	}
	if settings.PreStop > 0 {
		container.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: wholeSeconds(settings.PreStop)}}}
	}
	temporary := &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("64Mi"))}
	volumes := []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: temporary}}}
	if len(secrets.Sources) > 0 {
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "secrets", MountPath: secretsFolder, ReadOnly: true})
		volumes = append(volumes, corev1.Volume{Name: "secrets", VolumeSource: corev1.VolumeSource{Projected: secrets}})
	}
	spec := corev1.PodSpec{
		Containers: []corev1.Container{container}, Volumes: volumes, NodeSelector: p.selector,
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		TerminationGracePeriodSeconds: new(wholeSeconds(settings.PreStop + p.timeout + 2*time.Second)),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(settings.User), RunAsGroup: new(settings.User), FSGroup: new(settings.User),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: new(pods(p.request.Service)),
		}},
	}
	for _, name := range settings.PullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return spec
}

func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// environment is sorted, so that the same request makes the same pods.
func (p *plan) environment() []corev1.EnvVar {
	all := map[string]string{}
	for _, name := range watchdogTimeouts {
		all[name] = p.timeout.String()
	}
	maps.Copy(all, p.request.EnvVars)
	if p.request.EnvProcess != "" {
		all["fprocess"] = p.request.EnvProcess
	}
	var sorted []corev1.EnvVar
	for _, name := range slices.Sorted(maps.Keys(all)) {
		sorted = append(sorted, corev1.EnvVar{Name: name, Value: all[name]})
	}
	return sorted
}

func (p *probe) kubernetes() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:        corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: p.path, Port: intstr.FromString("http")}},
		InitialDelaySeconds: p.delay, PeriodSeconds: p.period, TimeoutSeconds: 2,
	}
}

func (p *plan) service() *corev1.Service {
	return &corev1.Service{ObjectMeta: p.meta(), Spec: corev1.ServiceSpec{
		Selector: pods(p.request.Service).MatchLabels,
		Ports:    []corev1.ServicePort{{Name: "http", Port: 8080, TargetPort: intstr.FromString("http")}},
	}}
}

// networkPolicy lets the gateway in, and nothing out but what the request's annotation names and the inventory allows.
func (p *plan) networkPolicy(settings Settings) *networkingv1.NetworkPolicy {
	port := intstr.FromInt32(8080)
	return &networkingv1.NetworkPolicy{ObjectMeta: p.meta(), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: pods(p.request.Service),
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From: settings.Policy.Ingress, Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
		}},
		Egress: p.egress,
	}}
}

func (p *plan) disruptionBudget() *policyv1.PodDisruptionBudget {
	one, selector := intstr.FromInt32(1), pods(p.request.Service)
	return &policyv1.PodDisruptionBudget{ObjectMeta: p.meta(), Spec: policyv1.PodDisruptionBudgetSpec{
		Selector: &selector, MaxUnavailable: &one,
	}}
}

// autoscaler is nil where there is nothing to scale between. It counts the function's own container: a sidecar has its
// own work.
func (p *plan) autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	if p.most == p.least {
		return nil
	}
	target := autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(cpuShare))}
	if p.milliCPU > 0 {
		target = autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewMilliQuantity(p.milliCPU, resource.DecimalSI)}
	}
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: p.meta(), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: p.request.Service},
		MinReplicas:    new(p.least), MaxReplicas: p.most,
		Metrics: []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ContainerResourceMetricSourceType,
			ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
				Name: corev1.ResourceCPU, Container: containerName, Target: target,
			},
		}},
	}}
}

// called is when a function was called last, as far as its Deployment says; its creation where it says nothing.
func called(deployment *appsv1.Deployment) time.Time {
	if number, err := strconv.ParseInt(deployment.Annotations[calledAnnotation], 10, 64); err == nil {
		return time.Unix(number, 0)
	}
	return deployment.CreationTimestamp.Time
}
