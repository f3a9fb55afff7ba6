package main

import "strings"

// secretNames are variables known to hold standing secrets, or to lead to
// one. An agent that is to hold no key must not inherit them.
var secretNames = map[string]bool{
	"AWS_ACCESS_KEY_ID": true, "AWS_SECRET_ACCESS_KEY": true, "AWS_SESSION_TOKEN": true, "AWS_SECURITY_TOKEN": true,
	"AWS_WEB_IDENTITY_TOKEN_FILE": true, "AWS_CONTAINER_AUTHORIZATION_TOKEN": true, "AWS_PROFILE": true,
	"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": true, "AWS_SHARED_CREDENTIALS_FILE": true,
	"AZURE_CLIENT_CERTIFICATE_PATH": true, "AZURE_FEDERATED_TOKEN_FILE": true, "AZURE_STORAGE_CONNECTION_STRING": true,
	"GOOGLE_APPLICATION_CREDENTIALS": true, "GOOGLE_CREDENTIALS": true, "CLOUDSDK_CONFIG": true,
	"DOCKER_AUTH_CONFIG": true, "KUBECONFIG": true, "NETRC": true, "PGPASSFILE": true, "DATABASE_URL": true, "REDIS_URL": true,
	"SSH_AUTH_SOCK": true, "SSH_AGENT_PID": true, "GIT_ASKPASS": true, "SSH_ASKPASS": true, "GPG_AGENT_INFO": true,
	"SLACK_WEBHOOK_URL": true, "SENTRY_DSN": true, "NODE_AUTH_TOKEN": true, "VAULT_ADDR": true, "MYSQL_PWD": true,
	"TOKEN": true, "SECRET": true, "ACCESS_KEY": true, "PRIVATE_KEY": true, "CREDENTIALS": true,
	"ACTIONS_ID_TOKEN_REQUEST_URL": true, "SPIFFE_ENDPOINT_SOCKET": true, "EXEAT_DATA": true,
}

// secretEndings are how the names of most others end: OPENAI_API_KEY,
// GITHUB_TOKEN, PGPASSWORD, STRIPE_SECRET_KEY.
var secretEndings = []string{
	"API_KEY", "APIKEY", "_TOKEN", "_AUTHTOKEN", "_PAT", "_SECRET", "_SECRET_KEY", "_PRIVATE_KEY", "_ACCESS_KEY", "_PASSWORD", "PASSWORD",
	"_PASSWD", "_PASSPHRASE", "_CREDENTIAL", "_CREDENTIALS", "_AUTH_KEY", "_SIGNING_KEY",
}

// standingSecret reports whether a variable of this name is taken from the
// command's environment.
func standingSecret(name string) bool {
	upper := strings.ToUpper(name)
	if secretNames[upper] {
		return true
	}
	for _, end := range secretEndings {
		if strings.HasSuffix(upper, end) {
			return true
		}
	}
	return false
}
