"""What removal's needs are made of today: SQL, HTTP forms, mail, YAML, the case service."""
