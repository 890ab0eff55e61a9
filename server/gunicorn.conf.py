"""How gunicorn serves. TensorFlow must not be loaded before the fork, so the application is not preloaded."""

worker_class = "gthread"
threads = 8
limit_request_line = 0  # product ids may be long
keepalive = 5
timeout = 60
graceful_timeout = 30
control_socket_disable = True  # it would open a socket in the home folder
proc_name = "image-similarity"
