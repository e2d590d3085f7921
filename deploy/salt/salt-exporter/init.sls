{#- Installs salt-exporter beside a Salt master: a virtualenv, its configuration, a systemd unit. #}
{%- from "salt-exporter/map.jinja" import exporter with context %}
{%- set program = exporter.prefix ~ "/bin/salt-exporter" %}
{%- set pins = "salt://salt-exporter/files/requirements.txt" %}
{%- set pip = [exporter.prefix ~ "/bin/python -m pip install --no-deps"] + exporter.pip_options %}
{%- set install = (pip + ["--requirement", exporter.prefix ~ "/requirements.txt", exporter.source]) | join(" ") %}
{#- What the virtualenv is made from; it is written when all of it is in place. #}
{%- set recipe = (install ~ salt["cp.get_file_str"](pins)) | sha256 %}

{%- if exporter.packages %}

salt-exporter-packages:
  pkg.installed:
    - pkgs: {{ exporter.packages | json }}
    - require_in:
      - cmd: salt-exporter-virtualenv
{%- endif %}

salt-exporter-virtualenv:
  cmd.run:
    - name: {{ exporter.python }} -m venv {{ exporter.prefix }}
    - creates: {{ exporter.prefix }}/bin/python

salt-exporter-pins:
  file.managed:
    - name: {{ exporter.prefix }}/requirements.txt
    - source: {{ pins }}
    - require:
      - cmd: salt-exporter-virtualenv

salt-exporter-installed:
  cmd.run:
    - name: {{ install }} && echo {{ recipe }} >{{ exporter.prefix }}/recipe
    - unless: grep -q {{ recipe }} {{ exporter.prefix }}/recipe
    - require:
      - file: salt-exporter-pins

salt-exporter-config-dir:
  file.directory:
    - name: {{ exporter.config_dir }}
    - user: root
    - group: {{ exporter.group }}
    - mode: "0750"

{%- if exporter.web_config %}
{%- do exporter.config.setdefault("web", {}).update({"config.file": exporter.config_dir ~ "/web-config.yml"}) %}

salt-exporter-web-config:
  file.managed:
    - name: {{ exporter.config_dir }}/web-config.yml
    - source: salt://salt-exporter/files/settings.yml.jinja
    - template: jinja
    - context:
        settings: {{ exporter.web_config | json }}
    - user: root
    - group: {{ exporter.group }}
    - mode: "0640"
    # It holds the hashes of passwords.
    - show_changes: false
    - require:
      - file: salt-exporter-config-dir
    - require_in:
      - file: salt-exporter-config
{%- endif %}

salt-exporter-config:
  file.managed:
    - name: {{ exporter.config_dir }}/config.yml
    - source: salt://salt-exporter/files/settings.yml.jinja
    - template: jinja
    - context:
        settings: {{ exporter.config | json }}
    - user: root
    - group: {{ exporter.group }}
    - mode: "0640"
    # A bad one never takes the place of a good one.
    - check_cmd: {{ program }} --config.check --config.file
    - tmp_dir: {{ exporter.config_dir }}
    - require:
      - cmd: salt-exporter-installed
      - file: salt-exporter-config-dir

salt-exporter-unit:
  file.managed:
    - name: {{ exporter.unit_dir }}/salt-exporter.service
    - source: salt://salt-exporter/files/salt-exporter.service
    - mode: "0644"

salt-exporter-drop-in:
  file.managed:
    - name: {{ exporter.unit_dir }}/salt-exporter.service.d/formula.conf
    - source: salt://salt-exporter/files/formula.conf.jinja
    - template: jinja
    - context:
        user: {{ exporter.user }}
        group: {{ exporter.group }}
        command: {{ program }} --config.file={{ exporter.config_dir }}/config.yml
    - mode: "0644"
    - makedirs: true

{%- if exporter.service %}

salt-exporter-service:
  service.running:
    - name: salt-exporter
    - enable: true
    - watch:
      - cmd: salt-exporter-installed
      - file: salt-exporter-config
      - file: salt-exporter-unit
      - file: salt-exporter-drop-in
{%- endif %}
