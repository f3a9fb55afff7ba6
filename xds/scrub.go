package xds

import (
	"regexp"
	"strings"
)

// maxDetail bounds what is kept of an Envoy's words.
const maxDetail = 1024

// secretish finds what an Envoy may quote from a configuration that it refuses:
// proxy credentials, and PEM.
var secretish = regexp.MustCompile(`(?s)Basic [A-Za-z0-9+/=_-]+|-----BEGIN.*?(-----END[^-]*-----|$)`)

// scrub makes an Envoy's words fit to be logged and shown.
func scrub(detail string) string {
	detail = secretish.ReplaceAllString(detail, "[secret]")
	detail = strings.ToValidUTF8(detail, "?")
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "..."
	}
	return detail
}
