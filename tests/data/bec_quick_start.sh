# The Quick Start of the BEC CLI guide, word for word: a test runs it block by block.

# ---
# Create .env file
cat > .env <<EOF
BEC_SQL_HOST=postgres.example.com
BEC_SQL_USER=pipeline_user
BEC_SQL_PASSWORD=secret
BEC_REGION=us-east-1
BEC_DEST_S3_BUCKET=bdrc-artifacts
BEC_LD_MODEL_PATH=/models/line-detection-v1.pth
EOF

# Load environment
export $(cat .env | xargs)
# ---
psql -h $BEC_SQL_HOST -U $BEC_SQL_USER -d pipeline_v1 -f schema.sql
# ---
# Create job (SQS queues created automatically!)
bec jobs create --name ldv1 --config-text '{
  "use_gpu": true,
  "precision": "fp16",
  "batch_size": 16
}'
# ---
# Create volume list
cat > volumes.txt <<EOF
W22084,I0886
W22084,I0887
W1KG13780,I1KG15541
EOF

# Enqueue volumes
bec queue enqueue --job-name ldv1 --file volumes.txt
# ---
# Run worker
bec worker --job-name ldv1
# ---
bec queue stats --job-name ldv1
# ---
# Overall statistics
bec jobs stats ldv1

# Recent task executions
bec jobs tasks ldv1

# Filter by status
bec jobs tasks ldv1 --status done
bec jobs tasks ldv1 --status retryable_failed --limit 50
