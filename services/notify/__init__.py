"""How the person is told: devices, notifications, inbox."""
