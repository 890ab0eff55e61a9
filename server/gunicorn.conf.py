"""How gunicorn serves. TensorFlow must not be loaded before the fork, so the application is not preloaded."""

worker_class = "gthread"
threads = 8
keepalive = 5
timeout = 60
graceful_timeout = 30
control_socket_disable = True  # it would open a socket in the home folder
proc_name = "image-similarity"
