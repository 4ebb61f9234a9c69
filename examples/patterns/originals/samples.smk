SAMPLES = ["A", "B", "C"]
CONTIGS = ["I", "II"]

rule all:
    input:
        "cohort.vcf"

rule align:
    output:
        "bam/{sample}.bam"
    shell:
        "echo 'reads of {wildcards.sample}' > {output}"

rule call:
    input:
        "bam/{sample}.bam"
    output:
        "vcf/{sample}.{contig}.vcf"
    shell:
        "sed 's/$/ on {wildcards.contig}/' {input} > {output}"

rule merge:
    input:
        expand("vcf/{{sample}}.{contig}.vcf", contig=CONTIGS)
    output:
        "{sample}.vcf"
    shell:
        "cat {input} > {output}"

rule cohort:
    input:
        expand("{sample}.vcf", sample=SAMPLES)
    output:
        "cohort.vcf"
    shell:
        "sort {input} > {output}"
