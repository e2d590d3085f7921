# Pillar of masters that have the state salt-exporter; everything is optional. All keys: salt-exporter/defaults.yaml.
salt-exporter:
  source: salt-exporter==0.1.0
  user: salt
  group: salt
  config:
    web:
      listen-address: "10.0.0.1:4507"
    jobs:
      deadline: 2m
  web_config:
    tls_server_config:
      cert_file: /etc/pki/tls/certs/master.pem
      key_file: /etc/pki/tls/private/master.key
    basic_auth_users:
      # `htpasswd -nBC 10 prometheus` prints it.
      prometheus: $2y$10$wFyMxOU4jvZEyg6TtXCxAOaLrYYA7GzVHfjW8aNqAjUQ3Mc5hYl2G
