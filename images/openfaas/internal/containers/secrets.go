package containers

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/openfaas/faas-provider/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

const maxSecret = 1 << 20 // Kubernetes' own limit

// Secrets lists the functions' secrets, without their values. Others of the namespace are nobody's business here, and no
// function can have them mounted.
func (c *Containers) Secrets(ctx context.Context, namespace string) ([]types.Secret, error) {
	selector := labels.SelectorFromSet(labels.Set{managerLabel: manager}).String()
	found, err := c.client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, apiError("list", "Secrets of", namespace, err)
	}
	all := []types.Secret{}
	for _, secret := range found.Items {
		all = append(all, types.Secret{Name: secret.Name, Namespace: namespace})
	}
	return all, nil
}

// PutSecret makes a secret, or with update replaces its value.
func (c *Containers) PutSecret(ctx context.Context, secret types.Secret, update bool) error {
	if faults := validation.IsDNS1123Subdomain(secret.Name); len(faults) > 0 {
		return functions.Refuse(http.StatusBadRequest, "the secret's name is %q, expected a-z, 0-9, - and . (a DNS name)", secret.Name)
	}
	value := secret.RawValue
	if len(value) == 0 {
		value = []byte(secret.Value)
	}
	if len(value) > maxSecret {
		return functions.Refuse(http.StatusBadRequest, "the secret %s has %d bytes, expected at most %d", secret.Name, len(value), maxSecret)
	}
	have, err := c.ownSecret(ctx, secret.Namespace, secret.Name)
	if functions.StatusOf(err) == http.StatusNotFound && err != nil && !update {
		_, err = c.client.CoreV1().Secrets(secret.Namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secret.Name, Namespace: secret.Namespace, Labels: map[string]string{managerLabel: manager}},
			Data:       map[string][]byte{secret.Name: value},
		}, metav1.CreateOptions{})
		return apiError("make", "Secret", secret.Name, err)
	}
	if err != nil {
		return err
	}
	if !update {
		return functions.Refuse(http.StatusConflict, "the secret %s is there already; PUT replaces it", secret.Name)
	}
	have.Data = map[string][]byte{secret.Name: value}
	_, err = c.client.CoreV1().Secrets(secret.Namespace).Update(ctx, have, metav1.UpdateOptions{})
	return apiError("replace", "Secret", secret.Name, err)
}

// DeleteSecret removes a secret that no function uses.
func (c *Containers) DeleteSecret(ctx context.Context, namespace, name string) error {
	if _, err := c.ownSecret(ctx, namespace, name); err != nil {
		return err
	}
	users, err := c.List(ctx, namespace)
	if err != nil {
		return err
	}
	for _, function := range users {
		// Its pods run on without the secret, but none could start any more.
		if slices.Contains(function.Secrets, name) {
			return functions.Refuse(http.StatusConflict, "the secret %s is used by the function %s; remove that first", name, function.Name)
		}
	}
	return gone("Secret", name, c.client.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
}

// ownSecret is a secret of a function; a foreign one is refused as if it were not there, unless its name is wanted.
func (c *Containers) ownSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	secret, err := c.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, functions.Refuse(http.StatusNotFound, "there is no secret %s in the namespace %s", name, namespace)
	}
	if err != nil {
		return nil, apiError("read", "Secret", name, err)
	}
	if secret.Labels[managerLabel] != manager {
		return nil, functions.Refuse(http.StatusForbidden, "the secret %s in the namespace %s is no function's", name, namespace)
	}
	return secret, nil
}

// secretsThere refuses a request that names secrets which do not exist: its pods would never start.
func (c *Containers) secretsThere(ctx context.Context, p *plan) error {
	var missing []string
	for _, name := range p.request.Secrets {
		_, err := c.ownSecret(ctx, p.request.Namespace, name)
		switch functions.StatusOf(err) {
		case http.StatusNotFound, http.StatusForbidden:
			missing = append(missing, name)
		default:
			if err != nil {
				return err
			}
		}
	}
	if len(missing) > 0 {
		return functions.Refuse(http.StatusBadRequest, "the function %s names secrets that the namespace %s does not have: %s; make them first (faas-cli secret create)",
			p.request.Service, p.request.Namespace, strings.Join(missing, ", "))
	}
	return nil
}
